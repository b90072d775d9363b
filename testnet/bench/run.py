"""`prsm-testnet bench`: four real daemons, clients on the control stream, figures.

Knows: how the network is started, what is counted between which two moments. Must not know: how a
client speaks or how a figure is printed. A latency counts from the moment a transaction was due
until validators of weight f+ had said the same block of it.
"""

import os
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import trio

from prsm.node.rpc.methods.node import NodeStatus
from prsm.protocol.errors import LocalError
from prsm.protocol.genesis import Genesis, Parameters, from_json
from prsm.testnet import launch
from prsm.testnet.bench import client as clients_of
from prsm.testnet.bench.client import Client, Pace
from prsm.testnet.bench.machine import Reading, commit, machine, rss_mib
from prsm.testnet.bench.orders import Payers, funded

WARM_SECONDS: Final = 2.0
DRAIN_SECONDS: Final = 15.0
REST_SECONDS: Final = 0.15  # between two single transfers: block, empty block behind it, quiet
LIFE_MS: Final = 3_600_000
SNAPSHOT_EVERY: Final = 1_000  # heights, as a node that nobody configured
MINE_MAX: Final = 400  # transfers a second of one closed-loop client, far above what it gets

Kind = Literal["stream", "per-request", "single"]


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked of one run."""

    nodes: int = 4
    rate: int = 2_000  # offered a second; of "single": none
    size: int = 200  # bytes of a transfer
    accounts: int = 10_000
    seconds: int = 60
    client: Kind = "stream"
    clients: int = 1  # connections of "per-request"
    tree_bits: int = 0  # 0: 2^tree_bits about the accounts, as docs/spec/ledger.md says

    def validate(self) -> None:
        """Refuse what cannot be measured.

        Raises:
            LocalError: a value out of its bounds.
        """
        for name, value, low, high in (
            ("nodes", self.nodes, 1, 32),
            ("rate", self.rate, 1, 100_000),
            ("size", self.size, 190, 60_000),
            ("accounts", self.accounts, 2, 2**20 - 32),
            ("seconds", self.seconds, 1, 3_600),
            ("clients", self.clients, 1, 120),
        ):
            if not low <= value <= high:
                raise LocalError(f"{name} {value}, from {low} to {high}")

    @property
    def parameters(self) -> Parameters:
        """Of the genesis: as many buckets as the state wants."""
        bits = self.tree_bits or max(14, min(20, (self.accounts - 1).bit_length()))
        return Parameters(tree_bits=bits)


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run found; times in ms, CPU in us a committed transaction."""

    commit: str
    machine: str
    others_percent: float
    offered_tx_s: float
    committed_tx_s: float
    committed: int
    failed: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    block_transactions: float
    blocks_s: float
    node_cpu_us: tuple[float, ...]
    client_cpu_us: float
    refused: dict[str, int]
    lost: dict[str, int]
    unanswered: int
    rss_mib: tuple[float, float]  # of the largest daemon: before, after


@dataclass(frozen=True, slots=True)
class Stand:
    """A network that runs, and its clients."""

    network: launch.Network
    genesis: Genesis
    clients: list[Client]

    @property
    def pids(self) -> tuple[int, ...]:
        """Of all processes that belong to the run: the daemons, then this one."""
        return (*(node.pid for node in self.network.nodes), os.getpid())


def run_bench(options: Options, *, folder: Path | None = None) -> Figures:
    """Start a network, measure, end it.

    Args:
        options: of the run.
        folder: where the network's files are kept; a temporary one if None.

    Raises:
        LocalError: bad options, or a daemon did not come up.
    """
    options.validate()
    with tempfile.TemporaryDirectory(prefix="prsm-bench-") as scratch:
        network = launch.create(
            (folder or Path(scratch)) / "net",
            options.nodes,
            funded=tuple(funded(options.accounts)),
            rig=launch.Rig(
                models=False, parameters=options.parameters, snapshot_every=SNAPSHOT_EVERY
            ),
        )
        try:
            network.start()
            return trio.run(_measure, network, options)
        finally:
            network.stop()


async def _measure(network: launch.Network, options: Options) -> Figures:
    genesis = from_json(network.genesis.read_bytes())
    until_ms = time.time_ns() // 1_000_000 + LIFE_MS
    payers = Payers(
        genesis.chain_id,
        count=options.accounts,
        size_bytes=options.size,
        valid_until_ms=until_ms,
    )
    async with trio.open_nursery() as nursery:
        count = options.clients if options.client == "per-request" else 1
        clients = await clients_of.connected(genesis, _addresses(network), count, nursery)
        stand = Stand(network, genesis, clients)
        run = {"stream": _stream, "per-request": _per_request, "single": _single}[options.client]
        figures = await run(stand, payers, options)
        nursery.cancel_scope.cancel()
    return figures


async def _stream(stand: Stand, payers: Payers, options: Options) -> Figures:
    (client,) = stand.clients
    raws = deque(payers.sign(int(options.rate * (WARM_SECONDS + options.seconds))))
    await clients_of.offer(client, raws, Pace(options.rate, WARM_SECONDS))
    before, rss = Reading.of(stand.pids), _rss(stand)
    began = await clients_of.offer(client, raws, Pace(options.rate, options.seconds))
    after, seconds = Reading.of(stand.pids), trio.current_time() - began
    await clients_of.settle(client, DRAIN_SECONDS)
    return _figures(stand, (began, seconds), (before, after), rss)


async def _per_request(stand: Stand, payers: Payers, options: Options) -> Figures:
    share = MINE_MAX * options.seconds
    orders = [payers.sign_of(i, min(share, 6_000)) for i in range(len(stand.clients))]
    before, rss, began = Reading.of(stand.pids), _rss(stand), trio.current_time()
    async with trio.open_nursery() as nursery:
        for client, raws in zip(stand.clients, orders, strict=True):
            nursery.start_soon(clients_of.closed_loop, client, raws, began + options.seconds)
    after, seconds = Reading.of(stand.pids), trio.current_time() - began
    return _figures(stand, (began, seconds), (before, after), rss)


async def _single(stand: Stand, payers: Payers, options: Options) -> Figures:
    (client,) = stand.clients
    raws = payers.sign(max(20, int(options.seconds / (REST_SECONDS + 0.01))))
    before, rss, began = Reading.of(stand.pids), _rss(stand), trio.current_time()
    await clients_of.one_by_one(client, raws, REST_SECONDS)
    after, seconds = Reading.of(stand.pids), trio.current_time() - began
    return _figures(stand, (began, seconds), (before, after), rss)


def _figures(
    stand: Stand,
    span: tuple[float, float],
    readings: tuple[Reading, Reading],
    rss: float,
) -> Figures:
    """Count what was due, and what became final, inside the span (start, seconds)."""
    began, seconds = span
    before, after = readings
    tickets = [ticket for client in stand.clients for ticket in client.book.tickets.values()]
    measured = [ticket for ticket in tickets if ticket.due_s >= began]
    done = [t for t in tickets if began <= t.final_s < began + seconds]
    late = sorted(1000 * (t.final_s - t.due_s) for t in measured if t.final_s)
    blocks = {t.height for t in done}
    each_us = [
        1e6 * (late_s - early_s) / max(1, len(done))
        for early_s, late_s in zip(before.each_s, after.each_s, strict=True)
    ]
    books = [client.book for client in stand.clients]
    return Figures(
        commit=commit(),
        machine=machine(),
        others_percent=before.others_percent(after, seconds),
        offered_tx_s=len(measured) / seconds,
        committed_tx_s=len(done) / seconds,
        committed=len(done),
        failed=sum(ticket.failed for ticket in measured),
        p50_ms=percentile(late, 50),
        p99_ms=percentile(late, 99),
        max_ms=late[-1] if late else 0.0,
        block_transactions=len(done) / max(1, len(blocks)),
        blocks_s=len(blocks) / seconds,
        node_cpu_us=tuple(each_us[:-1]),
        client_cpu_us=each_us[-1],
        refused=_summed([book.refused for book in books]),
        lost=_summed([book.lost for book in books]),
        unanswered=sum(book.open for book in books),
        rss_mib=(rss, _rss(stand)),
    )


def percentile(ordered: Sequence[float], percent: int) -> float:
    """By nearest rank, of ascending values; 0 of none."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, -(-len(ordered) * percent // 100) - 1)]


def _summed(counts: Sequence[dict[str, int]]) -> dict[str, int]:
    names = sorted({name for count in counts for name in count})
    return {name: sum(count.get(name, 0) for count in counts) for name in names}


def _rss(stand: Stand) -> float:
    return max(rss_mib(node.pid) for node in stand.network.nodes)


def _addresses(network: launch.Network) -> list[str]:
    found = []
    for node in network.nodes:
        with node.client() as door:
            found.append(door.call("node_getStatus", result=NodeStatus).addresses[0])
    return found
