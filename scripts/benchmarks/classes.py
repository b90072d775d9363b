"""Measure agreement of four real daemons while peers pull 100 MB/s of a model out of them.

Run: python scripts/bench.py net

Quiet and loaded spells take turns, so that what others do to this machine meets both. The model's
blocks come from the daemons' own stores, over `range`, and are hashed by who pulls them, in a
process of its own. Knows the client of `prsm-testnet bench`. Must not know classes or budgets.
"""

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec
import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from prsm.node.home import Home
from prsm.node.net.blocks import RANGE_LEAVES
from prsm.node.net.handshake import ChainIdentity
from prsm.node.net.host import libp2p_network
from prsm.node.net.interface import Channel
from prsm.node.rpc.methods.node import NodeStatus
from prsm.protocol.genesis import from_json
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import LEAF_BYTES, MIB
from prsm.protocol.messages.models import AskRange, Blocks
from prsm.storage.cid import Cid
from prsm.storage.store.model_store import ModelStore
from prsm.testnet.bench.client import Client, one_by_one
from prsm.testnet.bench.orders import Payers, funded
from prsm.testnet.launch import Network, Rig, create

Row = tuple[str, float, str]
NODES: Final = 4
ACCOUNTS: Final = 200
MODEL_BYTES: Final = 48 * MIB
RATE_BYTES: Final = 100_000_000  # a second, of all daemons together
ROUNDS: Final = 3
SPELL: Final = 60  # transfers in a spell, one after the other
REST_SECONDS: Final = 0.05
LIFE_MS: Final = 3_600_000
SLOWER_MAX: Final = 1.5
LOADED: Final = "agreement beside bulk p50"
BAR: Final = "bar: 1.5 times quiet"
LIMITS: Final[Mapping[str, str]] = {LOADED: BAR}


def measure_all() -> list[Row]:
    """Start the daemons, measure, end them."""
    with tempfile.TemporaryDirectory(prefix="prsm-classes-") as folder:
        network = create(
            Path(folder) / "net",
            NODES,
            funded=tuple(funded(ACCOUNTS)),
            rig=Rig(models=False, snapshot_every=1_000),
        )
        model = Path(folder) / "model"
        model.write_bytes(hashlib.shake_128(b"a model").digest(MODEL_BYTES))
        root = trio.run(_stored, [node.home for node in network.nodes], model)
        try:
            network.start()
            return trio.run(_measure, network, root)
        finally:
            network.stop()


async def _stored(homes: Sequence[Home], model: Path) -> Cid:
    root = None
    for home in homes:
        store = await ModelStore.open(home.blocks, quota=16 * MODEL_BYTES)
        try:
            root = (await store.add_file(model)).root
        finally:
            with trio.CancelScope(shield=True):
                await store.close()
    assert root is not None
    return root


async def _measure(network: Network, root: Cid) -> list[Row]:
    genesis = from_json(network.genesis.read_bytes())
    addresses = []
    for node in network.nodes:
        with node.client() as door:
            addresses.append(door.call("node_getStatus", result=NodeStatus).addresses[0])
    until_ms = time.time_ns() // 1_000_000 + LIFE_MS
    payers = Payers(genesis.chain_id, count=ACCOUNTS, size_bytes=200, valid_until_ms=until_ms)
    quiet: list[float] = []
    loaded: list[float] = []
    rates: list[float] = []
    async with trio.open_nursery() as nursery:
        client = Client(b"c" * 32, genesis, addresses)
        await nursery.start(client.run)
        await _spell(client, payers.sign(SPELL // 2))
        for _ in range(ROUNDS):
            quiet += await _spell(client, payers.sign(SPELL))
            async with _pulled(network, addresses, root) as rate:
                loaded += await _spell(client, payers.sign(SPELL))
            rates.append(rate[0])
        nursery.cancel_scope.cancel()
    middle = statistics.median(quiet)
    return [
        ("agreement quiet p50", middle, "ms"),
        ("agreement quiet p95", statistics.quantiles(quiet, n=20)[-1], "ms"),
        (LOADED, statistics.median(loaded), "ms"),
        ("agreement beside bulk p95", statistics.quantiles(loaded, n=20)[-1], "ms"),
        ("bulk beside agreement", statistics.mean(rates), "MB/s"),
        (BAR, SLOWER_MAX * middle, "ms"),
    ]


async def _spell(client: Client, raws: Sequence[bytes]) -> list[float]:
    """Transfers one after the other on a chain with nothing else to do: ms until final."""
    known = set(client.book.tickets)
    await one_by_one(client, raws, REST_SECONDS)
    tickets = [ticket for tx, ticket in client.book.tickets.items() if tx not in known]
    return [1000 * (ticket.final_s - ticket.due_s) for ticket in tickets if ticket.final_s]


@asynccontextmanager
async def _pulled(
    network: Network, addresses: Sequence[str], root: Cid
) -> AsyncIterator[list[float]]:
    """Pull in another process meanwhile; afterwards the list has the MB/s it got."""
    genesis = from_json(network.genesis.read_bytes())
    order = {
        "chain": genesis.chain_id.hex(),
        "genesis": genesis.digest.hex(),
        "addresses": list(addresses),
        "root": root.raw.hex(),
    }
    command = [sys.executable, "-W", "ignore", __file__, "--pull", json.dumps(order)]
    process = await trio.lowlevel.open_process(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    rate: list[float] = []
    try:
        await process.stdout.receive_some(1)  # it has begun
        yield rate
        await process.stdin.aclose()
        rate.append(float(await process.stdout.receive_some(100)))
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


class Order(msgspec.Struct, frozen=True):
    """What the pulling process is told."""

    chain: str
    genesis: str
    addresses: tuple[str, ...]
    root: str


async def pull(order: Order) -> None:
    """Pull runs of leaves from all nodes at `RATE_BYTES` until stdin ends; print the rate."""
    identity = ChainIdentity(bytes.fromhex(order.chain), bytes.fromhex(order.genesis))
    network = libp2p_network(b"p" * 32, identity, listen=["/ip4/127.0.0.1/tcp/0"])
    pulled = 0
    began = trio.current_time()

    async def one(peer: PeerId) -> None:
        nonlocal pulled
        first = 0
        while True:
            ask = AskRange(root=bytes.fromhex(order.root), first=first, count=RANGE_LEAVES)
            answer, tail = await network.call(peer, ask, channel=Channel.RANGE)
            assert isinstance(answer, Blocks)
            hashlib.sha256(tail).digest()
            pulled += len(tail)
            first = (first + len(answer.sizes)) % (MODEL_BYTES // LEAF_BYTES)
            ahead_s = pulled / RATE_BYTES - (trio.current_time() - began)
            await trio.sleep(max(0.0, ahead_s))

    async with trio.open_nursery() as nursery:
        await nursery.start(network.run)
        peers = [await network.connect(address) for address in order.addresses]
        for peer in peers:
            nursery.start_soon(one, peer)
        await trio.sleep(0.5)
        pulled, began = 0, trio.current_time()
        print("b", end="", flush=True)
        async with trio.lowlevel.FdStream(sys.stdin.fileno()) as stdin:
            await stdin.receive_some(1)
        print(pulled / (trio.current_time() - began) / 1e6, flush=True)
        nursery.cancel_scope.cancel()


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the rows; `--pull` is the other process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pull", help="run as the other process")
    options = parser.parse_args(arguments)
    if options.pull:
        trio.run(pull, msgspec.json.decode(options.pull, type=Order))
        return 0
    for name, value, unit in measure_all():
        print(f"  {name:<36} {value:>9.2f} {unit}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
