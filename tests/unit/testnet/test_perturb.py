"""Faults carried out on sleeping processes and on links that only note what is done to them."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

import random
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import MockClock

from prsm.node.home import Home
from prsm.node.keys import read_public_keys
from prsm.testnet import flooding, perturb, perturbed
from prsm.testnet.asking import Door
from prsm.testnet.deceit import lie_of, set_lie
from prsm.testnet.faults import Fault, Kind, Lie, Round
from prsm.testnet.launch import Network, create
from prsm.testnet.links import Report
from prsm.testnet.perturb import Perturber
from prsm.testnet.perturbed import Outcome
from prsm.testnet.processes import Node, NodeDied
from prsm.testnet.proxy import CLEAR, Conditions, Pair
from prsm.testnet.skewed import skew_file
from prsm.testnet.watch import Watch

COUNT = 4


@dataclass
class NotedLinks:
    """Links that keep a list of what they were told, and when."""

    told: list[tuple[float, dict[Pair, Conditions]]] = field(default_factory=list)
    cuts: list[Pair] = field(default_factory=list)

    async def impose(self, ways: Mapping[Pair, Conditions]) -> None:
        self.told.append((round(trio.current_time(), 3), dict(ways)))

    async def cut(self, one: int, other: int) -> int:
        self.cuts.append((one, other))
        return 2

    async def carried(self) -> Report:
        return Report(pid=0)

    def stalled(self) -> list[int]:
        """How many ways were stalled, each time they were told something."""
        return [sum(each.is_stalled for each in ways.values()) for _, ways in self.told]


def sleep() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Every process of this test; a node that is started is another sleeper."""
    made: list[subprocess.Popen[bytes]] = []

    def start(node: Node) -> None:
        made.append(sleep())
        node.pid = made[-1].pid

    monkeypatch.setattr(Node, "start", start)
    yield made
    for child in made:
        child.kill()
        child.wait()


@pytest.fixture
def network(tmp_path: Path, children: list[subprocess.Popen[bytes]]) -> Network:
    nodes = []
    for number in range(COUNT):
        home = Home(tmp_path / f"node{number}")
        home.create()
        nodes.append(Node(f"node{number}", home, is_rigged=True))
        nodes[-1].start()
    return Network(tmp_path, nodes)


@pytest.fixture
def noted() -> NotedLinks:
    return NotedLinks()


@pytest.fixture
def perturber(network: Network, noted: NotedLinks) -> Perturber:
    return Perturber(
        network,
        noted,
        voters=range(COUNT),
        watches=[Watch(Door(node.home)) for node in network.nodes],
        dice=random.Random(1),
    )


def state_of(node: Node) -> str:
    """R, S, T (stopped): as /proc says."""
    return Path(f"/proc/{node.pid}/stat").read_text().rpartition(")")[2].split()[0]


async def test_partition_is_imposed_for_its_time_and_taken_back(
    perturber: Perturber, noted: NotedLinks, autojump_clock: MockClock
) -> None:
    """Eight of twelve ways, five seconds; everybody was cut off, nobody answered for heights."""
    outcome = await perturber.carry_out(Fault(Kind.SPLIT, groups=((0, 1), (2, 3)), seconds=5))
    assert noted.stalled() == [8, 0]
    assert noted.told[1][0] - noted.told[0][0] == pytest.approx(5, abs=0.01)
    assert outcome.cut_off == (0, 1, 2, 3)
    assert outcome.minority_commits == 0
    assert outcome.heal_ms is None, "nobody measures"
    assert perturber.outcomes == [outcome]


async def test_node_counts_as_down_while_a_fault_holds_it_and_not_after(
    perturber: Perturber, autojump_clock: MockClock
) -> None:
    """Paused from 1 s to 3 s; who asks later hears of it only if it looks back so far."""
    began = trio.current_time()
    await trio.sleep(1)
    assert not perturber.was_down(1, began)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(perturber.carry_out, Fault(Kind.PAUSE, (1,), seconds=2))
        await trio.sleep(1)
        assert perturber.was_down(1, trio.current_time())
        assert not perturber.was_down(2, began)
    assert perturber.was_down(1, began + 2.5)
    assert not perturber.was_down(1, began + 3.5)


async def test_overlapping_faults_are_taken_back_one_by_one(
    perturber: Perturber, noted: NotedLinks, autojump_clock: MockClock
) -> None:
    """A delay of six seconds over links of 5 ms, one node isolated in between."""
    perturber.base = {(0, 1): Conditions(delay_ms=5)}
    slow = Fault(Kind.SLOW, conditions=Conditions(delay_ms=100), seconds=6)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(perturber.carry_out, slow)
        await trio.sleep(2)
        nursery.start_soon(perturber.carry_out, Fault(Kind.ISOLATE, (3,), seconds=2))
    first = [ways[0, 1].delay_ms for _, ways in noted.told]
    assert first == [105, 105, 105, 5]
    assert noted.stalled() == [0, 6, 0, 0]
    assert noted.told[-1][1][1, 0] == CLEAR


async def test_slow_proxy_ends_with_what_was_ordered_last(
    perturber: Perturber,
    noted: NotedLinks,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: MockClock,
) -> None:
    """Orders of two faults at once, the first of which takes longer: the second one stays."""
    impose, late = NotedLinks.impose, [0.2, 0.1]

    async def slow(self: NotedLinks, ways: Mapping[Pair, Conditions]) -> None:
        await trio.sleep(late.pop(0) if late else 0)
        await impose(self, ways)

    monkeypatch.setattr(NotedLinks, "impose", slow)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(perturber.carry_out, Fault(Kind.SILENCE, (3,), seconds=5))
        await trio.sleep(0.01)
        split = Fault(Kind.SPLIT, groups=((0, 1), (2, 3)), seconds=5)
        nursery.start_soon(perturber.carry_out, split)
    assert noted.stalled() == [3, 9, 8, 0]


async def test_flapping_opens_and_closes(
    perturber: Perturber, noted: NotedLinks, autojump_clock: MockClock
) -> None:
    """Twelve seconds in periods of four: closed for two, open for two, three times."""
    fault = Fault(Kind.FLAP, groups=((0, 1), (2, 3)), seconds=12, period_s=4)
    outcome = await perturber.carry_out(fault)
    assert noted.stalled() == [8, 0] * 3
    times = [when - noted.told[0][0] for when, _ in noted.told]
    assert times == pytest.approx([0, 2, 4, 6, 8, 10], abs=0.05)
    assert outcome.note == "3 times"
    assert outcome.cut_off == (0, 1, 2, 3)


async def test_blocks_of_a_minority_are_counted_once_it_is_quiet(
    perturber: Perturber, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """One block was under way when it began; two came when nobody could have shown them."""
    began = trio.current_time()

    async def heights(_self: Perturber, places: frozenset[int]) -> dict[int, int]:
        passed = trio.current_time() - began
        height = 10 + (passed > 0.2) + (passed > 3) + (passed > 4)
        return dict.fromkeys(places, height)

    monkeypatch.setattr(Perturber, "_heights", heights)
    outcome = await perturber.carry_out(Fault(Kind.ISOLATE, (2,), seconds=5))
    assert outcome.minority_commits == 2


@pytest.mark.parametrize(
    "beside",
    [
        Fault(Kind.SPLIT, groups=((0, 2), (1, 3)), seconds=3),
        Fault(Kind.PAUSE, (1,), seconds=3),
        Fault(Kind.CLOCK, (1,), seconds=3, skew_ms=9_000),
        Fault(Kind.BYZANTINE, (1,), seconds=3),
        Fault(Kind.DISK_FULL, (1,), seconds=3),
        Fault(Kind.KILL, (1,), seconds=3),
    ],
    ids=lambda fault: fault.kind.value,
)
async def test_what_a_fault_beside_it_held_up_is_no_minoritys(
    perturber: Perturber, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, beside: Fault
) -> None:
    """The last vote of a block came as the other one ended; the block after it is counted."""
    began = trio.current_time()

    async def heights(_self: Perturber, places: frozenset[int]) -> dict[int, int]:
        has_ended = perturber._eased > 0  # a process that dies takes its time
        return dict.fromkeys(places, 10 + has_ended + (trio.current_time() > began + 6))

    async def is_stopped(_door: Door) -> bool:
        return False

    monkeypatch.setattr(Perturber, "_heights", heights)
    monkeypatch.setattr(perturb, "_is_stopped", is_stopped)
    partition = Fault(Kind.SPLIT, groups=((0, 1), (2, 3)), seconds=8)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(perturber._observe, beside)
        outcome = await perturber._observe(partition)
    assert outcome.minority_commits == 1


async def test_who_is_cut_off_is_counted_by_each_fault_alone(
    perturber: Perturber, autojump_clock: MockClock
) -> None:
    """A flapping partition beside an isolated node: while it is open, the three others go on."""
    flap = Fault(Kind.FLAP, groups=((0, 1), (2, 3)), seconds=8, period_s=4)
    await perturber.play(Round((flap, Fault(Kind.ISOLATE, (2,), seconds=8)), rest_seconds=0))
    cut = {each.kind: each.cut_off for each in perturber.outcomes}
    assert cut == {Kind.FLAP: (0, 1, 2, 3), Kind.ISOLATE: (2,)}


async def test_healing_of_a_partition_is_not_that_of_a_killed_node(
    perturber: Perturber, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two faults at once: the write goes to a node that need not start first."""
    asked: list[list[int]] = []

    async def beat(_self: Perturber, places: list[int]) -> float | None:
        asked.append(places)
        return 1.0

    monkeypatch.setattr(Perturber, "_beat", beat)
    outcomes = [
        Outcome(Kind.KILL, (2,), 0.0, 1.0),
        Outcome(Kind.ISOLATE, (2,), 0.0, 1.0, (2,)),
        Outcome(Kind.SPLIT, (), 0.0, 1.0, (0, 1, 2, 3)),
    ]
    await perturber._measure(outcomes)
    assert asked == [[0, 1, 3], [0, 1, 3], [2]]
    assert [each.kind for each in perturber.outcomes] == [Kind.ISOLATE, Kind.SPLIT, Kind.KILL]
    assert all(each.heal_ms is not None for each in perturber.outcomes)


async def test_all_connections_of_a_node_are_cut(perturber: Perturber, noted: NotedLinks) -> None:
    """With each other node, once."""
    outcome = await perturber.carry_out(Fault(Kind.CUT, (1,)))
    assert noted.cuts == [(0, 1), (1, 2), (1, 3)]
    assert outcome.note == "6 connections"


async def test_killed_node_comes_back(
    perturber: Perturber, network: Network, children: list[subprocess.Popen[bytes]]
) -> None:
    """Another process; the others are the same."""
    before = [node.pid for node in network.nodes]
    await perturber.carry_out(Fault(Kind.KILL, (2,), seconds=0))
    after = [node.pid for node in network.nodes]
    assert [one == other for one, other in zip(before, after, strict=True)] == [
        True, True, False, True,
    ]  # fmt: skip
    assert len(children) == COUNT + 1
    assert network.nodes[2].is_running()


async def test_paused_node_is_stopped_and_goes_on(perturber: Perturber, network: Network) -> None:
    """Also when the fault is cancelled in the middle."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(perturber.carry_out, Fault(Kind.PAUSE, (0,), seconds=30))
        with trio.fail_after(5):
            while state_of(network.nodes[0]) != "T":  # noqa: ASYNC110 - another process
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert state_of(network.nodes[0]) != "T"


async def test_full_disk_is_a_limit_that_goes_away(
    perturber: Perturber, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file of the process may grow meanwhile; one that votes no more is started again."""
    monkeypatch.setattr(perturb, "RESUME_SECONDS", 0.05)
    node = network.nodes[1]
    pid, before = node.pid, resource.prlimit(node.pid, resource.RLIMIT_FSIZE)
    seen: list[tuple[int, int]] = []

    async def look() -> None:
        await trio.sleep(0.1)
        seen.append(resource.prlimit(pid, resource.RLIMIT_FSIZE))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        outcome = await perturber.carry_out(Fault(Kind.DISK_FULL, (1,), seconds=0.3))
    assert seen == [(0, before[1])]
    assert outcome.note == "node1 was started again"
    assert node.pid != pid
    assert node.is_running()


async def test_clock_and_lie_are_set_and_taken_back(
    perturber: Perturber, network: Network, autojump_clock: MockClock
) -> None:
    """A lie of the manifest stays; one of a fault goes."""
    clocks, liar, other = network.nodes[0].home, network.nodes[1].home, network.nodes[2].home
    set_lie(other, Lie.SILENT)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(perturber.carry_out, Fault(Kind.CLOCK, (0,), skew_ms=-5))
        fault = Fault(Kind.BYZANTINE, (1, 2), lie=Lie.BAD_BLOCKS)
        nursery.start_soon(perturber.carry_out, fault)
        await trio.sleep(1)
        assert int.from_bytes(skew_file(clocks).read_bytes(), "little", signed=True) == -5
        assert lie_of(liar) is Lie.BAD_BLOCKS
    assert int.from_bytes(skew_file(clocks).read_bytes(), "little", signed=True) == 0
    assert lie_of(liar) is None


async def test_round_leaves_nothing_behind(
    perturber: Perturber, network: Network, noted: NotedLinks, autojump_clock: MockClock
) -> None:
    """Two faults at once, healed; a node that is down then is started."""
    network.nodes[3].pid = 0
    faults = (Fault(Kind.SILENCE, (0,), seconds=1), Fault(Kind.LOSS, seconds=2))
    await perturber.play(Round(faults, rest_seconds=3))
    assert set(noted.told[-1][1].values()) == {CLEAR}
    assert network.nodes[3].is_running()
    assert [each.kind for each in perturber.outcomes] == [Kind.SILENCE, Kind.LOSS]
    assert perturber.done.total() == 2


async def test_node_that_ended_by_itself_ends_the_round(
    perturber: Perturber, children: list[subprocess.Popen[bytes]], autojump_clock: MockClock
) -> None:
    """No fault of ours: the test must not go on as if it were."""
    children[1].kill()
    children[1].wait()
    with pytest.raises(NodeDied, match="node1 ended by itself"):
        await perturber.play(Round((Fault(Kind.LOSS, seconds=1),), rest_seconds=0))


def test_what_was_done_is_written_and_found(tmp_path: Path) -> None:
    """For a stage that is called again."""
    assert perturbed.done(tmp_path) == []
    outcome = Outcome(Kind.SPLIT, (), 1.0, 2.0, (0, 1), 0, 12.5, "x")
    perturbed.note_done(tmp_path, 3, outcome)
    (line,) = perturbed.done(tmp_path)
    assert (line.number, line.outcome) == (3, outcome)


async def test_flood_is_ordered_and_counted(
    perturber: Perturber, network: Network, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Another program in the place of the flooders: it writes down what it was told."""
    create(tmp_path / "net", 1)
    network.folder = tmp_path / "net"
    network.nodes[0].home = Home(tmp_path / "net" / "node1")
    told = tmp_path / "told"
    code = f"import sys; open({str(told)!r}, 'w').write(sys.stdin.read()); print(1); print(2)"
    monkeypatch.setattr(flooding, "PROGRAM", (sys.executable, "-c", code))
    outcome = await perturber.carry_out(Fault(Kind.FLOOD, (0,), seconds=0.01))
    assert outcome.note == "2 strangers were sent away"
    orders = msgspec.json.decode(told.read_bytes())
    assert orders["victims"] == [[read_public_keys(network.nodes[0].home).peer_id, 0]]
    assert (orders["peers"], orders["times"]) == (flooding.PEERS, flooding.TIMES)
