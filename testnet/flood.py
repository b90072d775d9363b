"""Twenty hostile peers flood four daemons; what that costs those who behave.

Knows: processes, writes and how long each takes, what the daemons tell of themselves. Must not
know: what the floods are made of (`flooders`, a process of its own). The same load of honest
writes runs first in quiet and then under the flood; every identity that flooded must be banned.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import trio

from prsm.node.rpc.client import RpcError
from prsm.node.rpc.methods.chain import SubmitParams, Submitted
from prsm.node.rpc.methods.net import Bans, Load
from prsm.node.rpc.methods.node import NodeStatus
from prsm.protocol.errors import LocalError
from prsm.protocol.genesis import Allocation, Genesis, from_json
from prsm.protocol.ids import PublicKey
from prsm.protocol.transactions.envelope import transaction_id
from prsm.testnet import launch
from prsm.testnet.asking import Asker, Door
from prsm.testnet.bench.machine import seconds_of
from prsm.testnet.flooders import READY, Ended, Kind, Orders
from prsm.testnet.orders import order, signer_of, transfer
from prsm.testnet.outages import shape
from prsm.testnet.report import Screen
from prsm.testnet.watch import Watch

NODES: Final = 4
BALANCE: Final = 10**13
WRITE_SECONDS: Final = 60.0
WARM_SECONDS: Final = 3.0
SAMPLE_SECONDS: Final = 0.5
SLOWER_MAX: Final = 2.0
GROWTH_BYTES_MAX: Final = 64 * 2**20
BAN_SECONDS_MAX: Final = 5.0
START_SECONDS: Final = 30.0
SECONDS_MAX: Final = 45  # the first ban still runs when the flood is over
END_SECONDS: Final = 10.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for."""

    peers: int = 20
    times: int = 10
    seconds: float = 30.0  # of quiet, and of flood
    rest: float = 0.1  # between two writes of one writer; four write
    seed: int = 0
    keep: bool = False


@dataclass(slots=True)
class Writers:
    """Honest clients, one at each node, one write after the other."""

    genesis: Genesis
    doors: Sequence[Door]
    watches: Sequence[Watch]
    options: Options
    took_ms: list[float] = field(default_factory=list)
    failed: int = 0

    async def run(self) -> None:
        """Write until cancelled."""
        async with trio.open_nursery() as nursery:
            for place in range(NODES):
                nursery.start_soon(self._write, place)

    async def _write(self, place: int) -> None:
        asker = Asker(self.doors[place])
        try:
            await self._write_by(asker, place)
        finally:
            asker.close()

    async def _write_by(self, asker: Asker, place: int) -> None:
        signer, nonce = signer_of(self.options.seed, place), 0
        while True:
            raw = order(self.genesis, signer, transfer(bytes(32), nonce + 1), nonce=nonce)
            shown = self.watches[place].expect(transaction_id(raw))
            began = time.perf_counter()
            params = SubmitParams("0x" + raw.hex())
            try:
                with trio.fail_after(WRITE_SECONDS):
                    await asker.call("chain_submitTransaction", params, result=Submitted)
                    await shown.wait()
            except (RpcError, trio.TooSlowError):
                self.failed += 1
                return
            self.took_ms.append((time.perf_counter() - began) * 1000)
            nonce += 1
            await trio.sleep(self.options.rest)

    def take(self) -> list[float]:
        """Latencies since the last time."""
        taken, self.took_ms = self.took_ms, []
        return taken


def measure(options: Options, screen: Screen) -> dict[str, object]:
    """Run both times on one network.

    Raises:
        PrsmError: it did not come up.
    """
    if not 1 <= options.peers <= 100 or not 1 <= options.times <= 1000:
        raise LocalError("1 to 100 peers, 1 to 1,000 times the rate of one")
    if not 1 <= options.seconds <= SECONDS_MAX:
        raise LocalError(f"{options.seconds} seconds, 1 to {SECONDS_MAX}: a ban lasts a minute")
    folder = Path(tempfile.mkdtemp(prefix="prsm-flood-"))
    funded = [PublicKey(signer_of(options.seed, number).public_key) for number in range(NODES)]
    network = launch.create(
        folder / "net",
        NODES,
        funded=[Allocation(account, BALANCE) for account in funded],
        rig=launch.Rig(models=False),
    )
    try:
        network.start()
        return trio.run(_measure, network, options, screen)
    finally:
        network.stop()
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)


async def _measure(network: launch.Network, options: Options, screen: Screen) -> dict[str, object]:
    genesis = from_json(network.genesis.read_bytes())
    doors = [Door(node.home) for node in network.nodes]
    statuses = [await _ask(door, "node_getStatus", NodeStatus) for door in doors]
    orders = Orders(
        chain=genesis.chain_id,
        genesis=genesis.digest,
        victims=tuple(
            (status.peer_id, node.port)
            for status, node in zip(statuses, network.nodes, strict=True)
        ),
        peers=options.peers,
        times=options.times,
        seed=options.seed,
    )
    watches = [Watch(door) for door in doors]
    writers = Writers(genesis, doors, watches, options)
    async with trio.open_nursery() as nursery:
        for watch in watches:
            nursery.start_soon(watch.run)
        nursery.start_soon(writers.run)
        await trio.sleep(WARM_SECONDS)
        writers.take()
        screen.step("quiet")
        spent = [_cpu_seconds(network)]
        quiet_rss = await _largest_rss(doors, options.seconds)
        quiet = writers.take()
        spent.append(_cpu_seconds(network))
        screen.step(f"{options.peers} peers flood, {options.times} times the rate of one")
        with _flooders(orders) as (ended, has_begun):
            with trio.move_on_after(START_SECONDS):
                while not has_begun():  # noqa: ASYNC110 - another process writes a file
                    await trio.sleep(0.05)
            spent.append(_cpu_seconds(network))
            writers.take()
            flood_rss = await _largest_rss(doors, options.seconds)
            flooded = writers.take()
            spent.append(_cpu_seconds(network))
        screen.step("after the flood")
        document = {
            "nodes": NODES,
            "peers": options.peers,
            "times": options.times,
            "seconds": options.seconds,
            "quiet_ms": {"writes": len(quiet), **shape(quiet)},
            "flood_ms": {"writes": len(flooded), **shape(flooded)},
            "p99_times_quiet": round(shape(flooded)["p99"] / shape(quiet)["p99"], 2),
            "failed_writes": writers.failed,
            "cpu_quiet": round((spent[1] - spent[0]) / NODES / options.seconds, 3),
            "cpu_flood": round((spent[3] - spent[2]) / NODES / options.seconds, 3),
            "rss_growth_bytes": max(
                flood - quiet for flood, quiet in zip(flood_rss, quiet_rss, strict=True)
            ),
            **await _bans(doors, ended),
            **await _nodes(network, doors, statuses),
        }
        nursery.cancel_scope.cancel()
    return document


def _cpu_seconds(network: launch.Network) -> float:
    """What all daemons have used of processors so far (Linux)."""
    return sum(seconds_of(node.pid) for node in network.nodes)


async def _largest_rss(doors: Sequence[Door], seconds: float) -> list[int]:
    """Largest memory of each daemon while time passes."""
    largest = [0] * len(doors)
    until = trio.current_time() + seconds
    while trio.current_time() < until:
        await trio.sleep(SAMPLE_SECONDS)
        for place, door in enumerate(doors):
            load = await _ask(door, "net_getLoad", Load)
            largest[place] = max(largest[place], load.rss_bytes)
    return largest


async def _bans(doors: Sequence[Door], ended: Sequence[Ended]) -> dict[str, object]:
    banned = [
        {ban.peer_id for ban in (await _ask(door, "net_getBans", Bans)).items} for door in doors
    ]
    kept_in = [each for each in ended if each.peer not in banned[each.victim]]
    seconds = {
        kind.value: max((each.seconds for each in ended if each.kind is kind), default=0.0)
        for kind in Kind
    }
    return {
        "identities": len(ended),
        "not_banned": len(kept_in),
        "ban_seconds_max": seconds,
    }


async def _nodes(
    network: launch.Network, doors: Sequence[Door], before: Sequence[NodeStatus]
) -> dict[str, object]:
    after = [await _ask(door, "node_getStatus", NodeStatus) for door in doors]
    restarts = sum(part.restarts for status in after for part in status.parts)
    same = [old.pid == new.pid for old, new in zip(before, after, strict=True)]
    return {
        "deaths": same.count(False) + sum(not node.is_running() for node in network.nodes),
        "restarts": restarts,
        "blocks": min(status.height for status in after) - max(status.height for status in before),
    }


async def _ask(door: Door, method: str, result: type[T]) -> T:
    asker = Asker(door)
    try:
        return await asker.call(method, result=result)
    finally:
        asker.close()


@contextmanager
def _flooders(orders: Orders) -> Iterator[tuple[list[Ended], Callable[[], bool]]]:
    """Run the hostile process.

    Yields:
        A list, filled with whom it lost when the block ends; whether its first peer is in.
    """
    ended: list[Ended] = []
    with tempfile.TemporaryFile() as lines:
        child = subprocess.Popen(
            [sys.executable, "-m", "prsm.testnet.flooders"], stdin=subprocess.PIPE, stdout=lines
        )
        assert child.stdin is not None
        try:
            child.stdin.write(msgspec.json.encode(orders) + b"\n")
            child.stdin.flush()
            yield ended, lambda: bool(os.fstat(lines.fileno()).st_size)
        finally:
            with suppress(OSError):
                child.stdin.close()
            try:
                child.wait(timeout=END_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        lines.seek(0)
        said = [line for line in lines.readlines() if line != READY]
        ended += [msgspec.json.decode(line, type=Ended) for line in said]


def failures(document: dict[str, object]) -> list[str]:
    """Everything in a document that is above its bar."""
    broken = []
    match document:
        case {"p99_times_quiet": float(times)} if times > SLOWER_MAX:
            broken.append(f"p99 of a write is {times} times the quiet one, at most {SLOWER_MAX}")
    match document:
        case {"rss_growth_bytes": int(grown)} if grown > GROWTH_BYTES_MAX:
            broken.append(f"{grown} bytes more memory, at most {GROWTH_BYTES_MAX}")
    match document:
        case {"ban_seconds_max": dict(kinds)} if max(kinds.values()) > BAN_SECONDS_MAX:
            broken.append(f"a ban after {max(kinds.values())} s, at most {BAN_SECONDS_MAX}")
    bad = ("deaths", "restarts", "not_banned", "failed_writes")
    broken += [f"{document[name]} {name}" for name in bad if document[name]]
    if not document["identities"]:
        broken.append("nobody flooded")
    return broken
