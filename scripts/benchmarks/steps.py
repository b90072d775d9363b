"""Where the milliseconds of a lone transfer go: four real daemons with marks at their steps.

Run: python scripts/benchmarks/steps.py [--count 200] [--rest 0.15]

Each daemon is the product's own, started by this file, which puts a mark around calls of it: the
time of the machine's one monotonic clock, the CPU of the loop's thread, and how long that thread
waited for a core while it could have run (/proc, schedstat). A transfer is final when two of four
have answered; its steps are those of the proposer and of the second to answer. Marks cost a
microsecond or two each. Knows calls inside of the daemon by name. Must not change what they do.
"""

import argparse
import bisect
import inspect
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Final

import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from prsm.node.chain.driver import Driver
from prsm.node.chain.notices import Notices
from prsm.node.chain.signlog import SignLog
from prsm.node.home import Home
from prsm.node.net.calls import Conversation
from prsm.node.net.gate import Gate
from prsm.node.process import main as daemon
from prsm.node.rpc.methods.node import NodeStatus
from prsm.protocol.genesis import from_json
from prsm.storage.ledger import LedgerStore
from prsm.storage.wal import Wal
from prsm.testnet import launch
from prsm.testnet.bench import client as clients_of
from prsm.testnet.bench.machine import Reading, commit, machine
from prsm.testnet.bench.orders import Payers, funded

NODES: Final = 4
ACCOUNTS: Final = 10_000
WARM: Final = 10  # transfers before the first that counts
MARKS: Final = "steps.txt"
SPAN_NS: Final = 1_000_000_000  # a transfer that is not final by then is left out


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment of one daemon; CPU and queue of its loop's thread, -1 in other threads."""

    at_ns: int
    cpu_ns: int
    queued_ns: int
    name: str


@dataclass(slots=True)
class Marks:
    """What one process noted."""

    found: list[Mark] = field(default_factory=list)
    main: int = field(default_factory=threading.get_native_id)
    schedstat: int = -1

    def note(self, name: str) -> None:
        """Note that something happens now."""
        if threading.get_native_id() != self.main:
            self.found.append(Mark(time.monotonic_ns(), -1, -1, name))
            return
        if self.schedstat < 0:
            self.schedstat = os.open(f"/proc/self/task/{self.main}/schedstat", os.O_RDONLY)
        queued = int(os.pread(self.schedstat, 80, 0).split()[1])
        self.found.append(Mark(time.monotonic_ns(), time.thread_time_ns(), queued, name))

    def around(self, owner: object, name: str, label: str | Callable[..., str]) -> None:
        """Note beginning and end of a function or method, by its label and that with a dot."""
        stock = getattr(owner, name)

        def named(arguments: Sequence[object]) -> str:
            return label if isinstance(label, str) else label(*arguments)

        @wraps(stock)
        def plain(*arguments: object, **options: object) -> object:
            said = named(arguments)
            self.note(said)
            try:
                return stock(*arguments, **options)
            finally:
                self.note(said + ".")

        @wraps(stock)
        async def waiting(*arguments: object, **options: object) -> object:
            said = named(arguments)
            self.note(said)
            try:
                return await stock(*arguments, **options)
            finally:
                self.note(said + ".")

        setattr(owner, name, waiting if inspect.iscoroutinefunction(stock) else plain)

    def save(self, path: Path) -> None:
        """Write one line a mark."""
        lines = (f"{m.at_ns} {m.cpu_ns} {m.queued_ns} {m.name}\n" for m in self.found)
        fresh = path.with_suffix(".new")
        fresh.write_text("".join(lines), encoding="ascii")
        fresh.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Marks":
        """Read what `save` wrote."""
        rows = [line.split(" ") for line in path.read_text(encoding="ascii").splitlines()]
        return cls([Mark(int(a), int(b), int(c), d) for a, b, c, d in rows])


def run_node(arguments: Sequence[str]) -> int:
    """Be a daemon that keeps marks, until it is stopped."""

    def kind_of(message: object) -> str:
        kind = getattr(message, "kind", None)
        return type(message).__name__ if kind is None else kind.name

    def ordered(_driver: object, effect: object) -> str:
        message = getattr(effect, "message", None)
        return type(effect).__name__ if message is None else f"say-{kind_of(message)}"

    def heard(_conversation: object, incoming: object) -> str:
        return f"hear-{kind_of(getattr(incoming, 'message', None))}"

    marks = Marks()
    for owner, name, label in (
        (Conversation, "_take_message", heard),
        (Driver, "_do", ordered),
        (SignLog, "append", "append"),
        (Wal, "append", "sync"),
        (Driver, "_execute", "execute"),
        (LedgerStore, "commit", "commit"),
        (Notices, "_tell", "answer"),
        (Gate, "send", "write"),
    ):
        marks.around(owner, name, label)
    target = Home(Path(arguments[arguments.index("--home") + 1])).root / MARKS
    signal.signal(signal.SIGUSR1, lambda *_: marks.save(target))
    return daemon(arguments)


@dataclass(frozen=True, slots=True)
class Course:
    """What was measured: when each transfer left and was final, and the daemons' marks."""

    spans: list[tuple[int, int]]
    nodes: list[Marks]
    others_percent: float


def measure(folder: Path, *, count: int, rest_s: float) -> Course:
    """Run four daemons and send one transfer after the other."""
    network = launch.create(
        folder / "net", NODES, funded=tuple(funded(ACCOUNTS)), rig=launch.Rig(models=False)
    )
    program = (sys.executable, str(Path(__file__).resolve()), "--node")
    deadline = time.monotonic() + launch.START_SECONDS
    try:
        for node in network.nodes:
            node.start(program)
        for node in network.nodes:
            node.wait_ready(deadline)
            launch.wait_peers(node, NODES - 1, deadline)
        spans, others = trio.run(_send, network, count, rest_s)
        files = [node.home.root / MARKS for node in network.nodes]
        for node, file in zip(network.nodes, files, strict=True):
            node.signal(signal.SIGUSR1)
            while not file.exists():
                launch.nap()
    finally:
        network.stop()
    return Course(spans, [Marks.load(file) for file in files], others)


async def _send(
    network: launch.Network, count: int, rest_s: float
) -> tuple[list[tuple[int, int]], float]:
    genesis = from_json(network.genesis.read_bytes())
    until_ms = time.time_ns() // 1_000_000 + 3_600_000
    payers = Payers(genesis.chain_id, count=ACCOUNTS, size_bytes=200, valid_until_ms=until_ms)
    addresses = []
    for node in network.nodes:
        with node.client() as door:
            addresses.append(door.call("node_getStatus", result=NodeStatus).addresses[0])
    pids = (*(node.pid for node in network.nodes), os.getpid())
    async with trio.open_nursery() as nursery:
        (client,) = await clients_of.connected(genesis, addresses, 1, nursery)
        spans: list[tuple[int, int]] = []
        before, began = Reading.of(pids), trio.current_time()
        for raw in payers.sign(WARM + count):
            await trio.sleep(rest_s)
            sent = time.monotonic_ns()
            client.book.enter(raw, trio.current_time())
            client.send([raw])
            while client.book.open:
                await client.wait_change()
            spans.append((sent, time.monotonic_ns()))
        others = before.others_percent(Reading.of(pids), trio.current_time() - began)
        nursery.cancel_scope.cancel()
    return spans[WARM:], others


@dataclass(slots=True)
class Step:
    """One row of the table, in ms a transfer."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    queued: list[float] = field(default_factory=list)
    sync: list[float] = field(default_factory=list)


class Table:
    """Steps in their order."""

    def __init__(self) -> None:
        self.steps: dict[str, Step] = {}

    def add(self, name: str, first: Mark, last: Mark, marks: Sequence[Mark] = ()) -> None:
        """Count a step between two marks; CPU and queue only where both are of one loop."""
        step = self.steps.setdefault(name, Step())
        step.wall.append((last.at_ns - first.at_ns) / 1e6)
        if first.cpu_ns < 0 or last.cpu_ns < 0 or not marks:
            return
        step.cpu.append((last.cpu_ns - first.cpu_ns) / 1e6)
        step.queued.append((last.queued_ns - first.queued_ns) / 1e6)
        inside = [m for m in marks if first.at_ns <= m.at_ns <= last.at_ns]
        ends = [m.at_ns for m in inside if m.name == "sync."]
        begins = [m.at_ns for m in inside if m.name == "sync"]
        step.sync.append(sum(b - a for a, b in zip(begins, ends, strict=False)) / 1e6)

    def write(self) -> None:
        """Print the medians."""
        print("| step | ms | CPU of its loop | waiting for a core | log synced |")
        print("|---|---|---|---|---|")
        for name, step in self.steps.items():
            columns = (step.wall, step.cpu, step.queued, step.sync)
            medians = (f"{statistics.median(c):.2f}" if c else "" for c in columns)
            print(f"| {name} | {' | '.join(medians)} |")


def first(marks: Iterable[Mark], name: str, after_ns: int = 0) -> Mark | None:
    """The first mark of a name from a time on."""
    return next((m for m in marks if m.name == name and m.at_ns >= after_ns), None)


def tabulate(course: Course) -> Table:
    """Cut each transfer into its steps."""
    table = Table()
    times = [[mark.at_ns for mark in node.found] for node in course.nodes]
    for sent, final in course.spans:
        parts = [
            node.found[bisect.bisect(at, sent) : bisect.bisect(at, sent + SPAN_NS)]
            for node, at in zip(course.nodes, times, strict=True)
        ]
        _tabulate_one(table, (sent, final), parts)
    return table


def _tabulate_one(table: Table, span: tuple[int, int], parts: Sequence[Sequence[Mark]]) -> None:
    begun, over = Mark(span[0], -1, -1, "sent"), Mark(span[1], -1, -1, "final")
    answers = sorted(
        (found.at_ns, place)
        for place, part in enumerate(parts)
        if (found := first(part, "answer")) is not None
    )
    proposed = [p for p in parts if (found := first(p, "say-PROPOSE")) and found.at_ns < over.at_ns]
    if len(answers) < 2 or not proposed:
        return
    proposer, answerer = proposed[0], parts[answers[1][1]]
    order = (
        ("the client's frame is read by the proposer", proposer, "hear-Submit"),
        ("proposer: checked, drafted, judged, PROPOSE durable", proposer, "say-PROPOSE"),
        ("proposer: PROPOSE written", proposer, "write."),
        ("PROPOSE is read by who answers second", answerer, "hear-PROPOSE"),
        ("it: checked, judged, PREPARE durable", answerer, "say-PREPARE"),
        ("it: PREPAREs of a quorum counted", answerer, "append"),
        ("it: COMMIT durable", answerer, "say-COMMIT"),
        ("it: COMMITs of a quorum counted", answerer, "execute"),
        ("it: block durable", answerer, "commit."),
        ("it: answer queued", answerer, "answer"),
        ("it: answer written", answerer, "write."),
    )
    rows: list[tuple[str, Mark, Mark, Sequence[Mark]]] = []
    last, where = begun, proposer
    for name, part, mark in order:
        if mark == "hear-PROPOSE" and answerer is proposer:
            continue
        found = first(part, mark, last.at_ns if part is where else 0)
        if found is None or found.at_ns > over.at_ns:
            return
        rows.append((name, last, found, part if part is where and last is not begun else ()))
        last, where = found, part
    rows.append(("the client has read two answers", last, over, ()))
    for row in rows:
        table.add(*row)
    table.add("**all**", begun, over)


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["--node"]:
        sys.exit(run_node(sys.argv[2:]))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="transfers")
    parser.add_argument("--rest", type=float, default=0.15, help="seconds between two of them")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="prsm-steps-") as folder:
        course = measure(Path(folder), count=options.count, rest_s=options.rest)
    print(f"{commit()}, {machine()}, others took {course.others_percent:.0f} % of a core")
    tabulate(course).write()
    busy = sum(_had_company(node, span) for span in course.spans for node in course.nodes)
    print(f"{busy} of {NODES * len(course.spans)} times a node had another block to do meanwhile")


def _had_company(node: Marks, span: tuple[int, int]) -> bool:
    """Did a node execute more than the block of the transfer before that was final?"""
    return sum(m.name == "execute" and span[0] < m.at_ns < span[1] for m in node.found) > 1


if __name__ == "__main__":
    main()
