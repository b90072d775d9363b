"""Measure four real daemons on loopback: signed transfers by JSON-RPC until they are in a block.

Transactions are signed beforehand and handed in at a fixed rate whatever the answer takes, and a
latency counts from the moment a transaction was due: a slow node cannot slow its own clock.
Blocks are seen by asking one node for its height every few milliseconds.
"""

import socket
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, Self

import msgspec
import trio
from benchmarks.ledger import FEE, FIRST_ACCOUNT, MICRO, VERIFY, Purse, measure_one_row

from prsm.node.rpc.client import Client, RpcError
from prsm.node.rpc.methods.chain import ConsensusState
from prsm.protocol.genesis import Allocation, from_json
from prsm.protocol.transactions.envelope import transaction_id
from prsm.storage.ledger import LedgerStore
from prsm.testnet.bench.machine import rss_mib, seconds_of
from prsm.testnet.bench.run import percentile
from prsm.testnet.chain import signer_of
from prsm.testnet.launch import Network, Node, create

NODES: Final = 4
ACCOUNTS: Final = 200
RATES: Final = (50, 200, 500)
SECONDS: Final = 8
SINGLES: Final = 30
REST_SECONDS: Final = 0.12  # between two single transfers: block, empty block behind it, quiet
ASK_SECONDS: Final = 0.001  # between two questions; a question costs the node as much
WATCH_SECONDS: Final = 0.01
DRAIN_SECONDS: Final = 10.0
ROUND_TRIPS: Final = 1_000
Row = tuple[str, float, str]

ROUND_TRIP: Final = "TCP on loopback: round trip of 200 B, p50"
FLOOR: Final = "one durable row and one round trip"
SETTLING_S: Final = 30  # until what a start leaves to do is done: links, books, freed pages
RESTING_S: Final = 30  # processor time comes in hundredths of a second
IDLE_P50: Final = "idle, one transfer: submit to committed, p50"
IDLE_P99: Final = "idle, one transfer: submit to committed, p99"
RSS_BAR: Final = "bar of 130 MiB"
RSS_START: Final = "RSS of a daemon without its workers, at start"
RSS_END: Final = "RSS of a daemon without its workers, at the end"


def _name(rate: int, what: str) -> str:
    return f"{rate} tx/s offered: {what}"


LIMITS: Final = {
    IDLE_P50: FLOOR,
    IDLE_P99: FLOOR,
    RSS_START: RSS_BAR,
    RSS_END: RSS_BAR,
    **{_name(rate, "committed"): _name(rate, "handed in") for rate in RATES},
    **{_name(rate, "p50"): FLOOR for rate in RATES},
    **{_name(rate, "p99"): FLOOR for rate in RATES},
    **{_name(rate, "CPU a transaction and node"): VERIFY for rate in RATES},
}


class _Listed(msgspec.Struct):
    tx_id: str
    ok: bool | None


class _BlockView(msgspec.Struct):
    height: int
    transactions: list[_Listed]


class _Found(msgspec.Struct):
    status: str


@dataclass(frozen=True, slots=True)
class Order:
    """A signed transaction and its id, in hex."""

    raw: str
    tx_id: str


class Seen(NamedTuple):
    """The block of a transaction, and when it was first seen."""

    height: int
    when: float


class HeightWatch:
    """Notes when a height was first seen at one node."""

    def __init__(self, node: Node) -> None:
        self.seen: dict[int, float] = {}
        self._node = node
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        """Start asking."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop asking."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with self._node.client() as client:
            last = height_of(client)
            while not self._stop.wait(WATCH_SECONDS):
                height = height_of(client)
                now = time.perf_counter()
                for new in range(last + 1, height + 1):
                    self.seen[new] = now
                last = height


@dataclass(slots=True)
class Offered:
    """What one run handed in."""

    due: dict[str, float] = field(default_factory=dict)  # tx_id -> when it was due
    refused: Counter[str] = field(default_factory=Counter)


class Payers:
    """Accounts of the bench, each bound to one node, so that its nonces arrive in order."""

    def __init__(self, network: Network) -> None:
        genesis = from_json(network.genesis.read_bytes())
        until = time.time_ns() // 1_000_000 + 600_000
        keys = [signer_of(FIRST_ACCOUNT + i) for i in range(ACCOUNTS)]
        self._addresses = [key.public_key for key in keys]
        self._purses = [Purse(genesis.chain_id, key, until) for key in keys]
        self._nonces = [0] * ACCOUNTS
        self._next = 0

    def sign(self, count: int) -> list[list[Order]]:
        """Sign the next `count` transfers; by node, in the order to hand them in."""
        orders: list[list[Order]] = [[] for _ in range(NODES)]
        for _ in range(count):
            orders[self._next % NODES].append(self._order(self._next % ACCOUNTS))
            self._next += 1
        return orders

    def sign_for_first(self, count: int) -> list[Order]:
        """Sign transfers of accounts of the first node."""
        return [self._order(i * NODES % ACCOUNTS) for i in range(count)]

    def _order(self, place: int) -> Order:
        to = self._addresses[(place + 1) % ACCOUNTS]
        raw = self._purses[place].pay(to, self._nonces[place])
        self._nonces[place] += 1
        return Order("0x" + raw.hex(), "0x" + transaction_id(raw).hex())


def measure_all() -> list[Row]:
    """Start four nodes, measure, end them."""
    sys.setswitchinterval(0.0005)  # a thread that hands in must not wait 5 ms for another
    trip = measure_round_trip()
    rows: list[Row] = [
        (ROUND_TRIP, trip, "ms"),
        (FLOOR, trip + trio.run(measure_commit), "ms"),
        (RSS_BAR, 130.0, "MiB"),
    ]
    with running() as network:
        rows += _measure(network)
    return rows


async def measure_commit() -> float:
    """Milliseconds to make one row durable on the disk the daemons are on, p50."""
    with tempfile.TemporaryDirectory(prefix="prsm-bench-") as folder:
        store = await LedgerStore.open(Path(folder) / "ledger.db")
        try:
            return await measure_one_row(store)
        finally:
            await store.close()  # noqa: ASYNC102 - close() shields itself


@contextmanager
def running() -> Iterator[Network]:
    """Four daemons and funded accounts, in a folder that is removed afterwards."""
    funded = [
        Allocation(signer_of(FIRST_ACCOUNT + i).public_key, FEE * MICRO) for i in range(ACCOUNTS)
    ]
    with tempfile.TemporaryDirectory(prefix="prsm-bench-") as folder:
        network = create(Path(folder) / "net", NODES, funded=funded)
        try:
            network.start()
            yield network
        finally:
            network.stop()


def _measure(network: Network) -> list[Row]:
    rows: list[Row] = [(RSS_START, max(rss_mib(node.pid) for node in network.nodes), "MiB")]
    payers = Payers(network)
    threading.Event().wait(SETTLING_S)
    began, cpu = time.perf_counter(), cpu_seconds(network)
    threading.Event().wait(RESTING_S)
    idle = (cpu_seconds(network) - cpu) / (time.perf_counter() - began)
    rows.append(("idle: CPU of a daemon", 100 * idle / NODES, "% core"))
    singles = sorted(measure_singles(network, payers))
    rows += [
        (IDLE_P50, percentile(singles, 50), "ms"),
        (IDLE_P99, percentile(singles, 99), "ms"),
    ]
    for rate in RATES:
        rows += measure_rate(network, payers, rate)
    rows.append((RSS_END, max(rss_mib(node.pid) for node in network.nodes), "MiB"))
    return rows


def measure_singles(network: Network, payers: Payers) -> list[float]:
    """Milliseconds from handing in one transfer until the same node has it in a block."""
    found = []
    pause = threading.Event()
    with network.nodes[0].client() as client:
        for order in payers.sign_for_first(SINGLES):
            pause.wait(REST_SECONDS)
            height = height_of(client)
            began = time.perf_counter()
            client.call_raw("chain_submitTransaction", {"raw": order.raw})
            while not is_committed(client, order, height):
                late = time.perf_counter() - began
                assert late < DRAIN_SECONDS, f"{order.tx_id} is in no block after {late:.0f} s"
                pause.wait(ASK_SECONDS)
            found.append(1000 * (time.perf_counter() - began))
    return found


def measure_rate(network: Network, payers: Payers, rate: int) -> list[Row]:
    """Hand in `rate` transactions a second for `SECONDS`; rows of that run."""
    orders = payers.sign(rate * SECONDS)
    offered = Offered()
    cpu = cpu_seconds(network)
    with network.nodes[0].client() as client:
        first = height_of(client) + 1
        with HeightWatch(network.nodes[0]) as watch:
            began = time.perf_counter() + 0.05
            threads = [
                threading.Thread(target=_hand_in, args=(node, mine, offered, (began, rate)))
                for node, mine in zip(network.nodes, orders, strict=True)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            spent = time.perf_counter() - began
            wait_until(lambda: waiting(client) == 0)
            threading.Event().wait(0.1)
        cpu = cpu_seconds(network) - cpu
        at = committed_at(client, first, watch.seen)
    return _rate_rows(rate, offered, at, (began, spent, cpu))


def _hand_in(
    node: Node, orders: Sequence[Order], offered: Offered, pace: tuple[float, int]
) -> None:
    began, rate = pace
    pause = threading.Event()
    with node.client() as client:
        for i, order in enumerate(orders):
            due = began + i * NODES / rate
            left = due - time.perf_counter()
            if left > 0:
                pause.wait(left)
            offered.due[order.tx_id] = due
            try:
                client.call_raw("chain_submitTransaction", {"raw": order.raw})
            except RpcError as refusal:
                offered.refused[refusal.reason] += 1


def _rate_rows(
    rate: int, offered: Offered, at: Mapping[str, Seen], spent: tuple[float, float, float]
) -> list[Row]:
    began, seconds, cpu = spent
    done = {tx: at[tx] for tx in offered.due if tx in at}
    late = sorted(1000 * (seen.when - offered.due[tx]) for tx, seen in done.items())
    over = max((seen.when for seen in done.values()), default=began + seconds) - began
    blocks = {seen.height for seen in done.values()}
    rows: list[Row] = [
        (_name(rate, "handed in"), len(offered.due) / seconds, "tx/s"),
        (_name(rate, "committed"), len(done) / max(over, seconds), "tx/s"),
        (_name(rate, "p50"), percentile(late, 50), "ms"),
        (_name(rate, "p99"), percentile(late, 99), "ms"),
        (_name(rate, "transactions a block"), len(done) / max(1, len(blocks)), ""),
        (_name(rate, "CPU a transaction and node"), cpu * 1e6 / NODES / max(1, len(done)), "us"),
        (_name(rate, "CPU of a daemon"), 100 * cpu / NODES / max(over, seconds), "% core"),
    ]
    lost = len(offered.due) - len(done)
    if lost or offered.refused:
        why = ", ".join(f"{name} {count}" for name, count in offered.refused.items())
        rows.append((_name(rate, f"not committed ({why or 'no reason given'})"), lost, "tx"))
    return rows


def committed_at(client: Client, first: int, seen: Mapping[int, float]) -> dict[str, Seen]:
    """Where and when each transaction from a height on was seen in a block."""
    found: dict[str, Seen] = {}
    for height in range(first, max(seen, default=first - 1) + 1):
        block = client.call("chain_getBlock", {"height": height}, result=_BlockView)
        for listed in block.transactions:
            assert listed.ok, f"{listed.tx_id} failed"
            found[listed.tx_id] = Seen(height, seen[height])
    return found


def height_of(client: Client) -> int:
    """The committed height of a node."""
    return client.call("consensus_getState", result=ConsensusState).height


def is_committed(client: Client, order: Order, height: int) -> bool:
    """Is a transaction in a block above a height? Asks for it only when there is such a block."""
    if height_of(client) == height:
        return False
    found = client.call("chain_getTransaction", {"tx_id": order.tx_id}, result=_Found)
    return found.status == "committed"


def waiting(client: Client) -> int:
    """Transactions in a node's pool."""

    class Pool(msgspec.Struct):
        mempool: int

    return client.call("chain_getStatus", result=Pool).mempool


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait, at most `DRAIN_SECONDS`."""
    deadline = time.monotonic() + DRAIN_SECONDS
    while not is_so() and time.monotonic() < deadline:
        threading.Event().wait(0.05)


def measure_round_trip() -> float:
    """Milliseconds of 200 B there and back between two threads on loopback, p50."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        thread = threading.Thread(target=_echo, args=(server,), daemon=True)
        thread.start()
        times = []
        with socket.create_connection(("127.0.0.1", port)) as stream:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(ROUND_TRIPS):
                began = time.perf_counter()
                stream.sendall(bytes(200))
                stream.recv(4096)
                times.append(time.perf_counter() - began)
        thread.join()
    return 1000 * statistics.median(times)


def _echo(server: socket.socket) -> None:
    stream, _ = server.accept()
    with stream:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := stream.recv(4096):
            stream.sendall(data)


def cpu_seconds(network: Network) -> float:
    """Processor seconds of all daemons, their workers left out."""
    return sum(seconds_of(node.pid) for node in network.nodes)
