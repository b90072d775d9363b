"""One hop of a circuit: windows, credit, ends, and neighbours that break the rules."""

from collections.abc import Sequence

import pytest
import trio
import trio.testing
from typing_extensions import override

from prsm.node.net.circuit import (
    CREDIT_BYTES_MIN,
    ENDED_REMEMBERED_MAX,
    CircuitAbused,
    Circuits,
    Hop,
)
from prsm.node.net.interface import Channel, Incoming, PeerUnreachable
from prsm.node.net.streams import StreamLost
from prsm.protocol.codec import Record
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import CIRCUIT_PIECE_BYTES_MAX, CIRCUIT_WINDOW_BYTES
from prsm.protocol.messages.reach import CircuitCredit, CircuitData, CircuitEnd
from tests.tools.wires import Wire

LOW, HIGH = PeerId("a"), PeerId("z")  # of them and `us`


class Line(Wire):
    """A wire that notes what is sent with waiting, and can break."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[tuple[Record, bytes]] = []
        self.is_broken = False

    @override
    async def send(
        self,
        peer: PeerId,
        message: Record,
        *,
        channel: Channel,
        tail: bytes = b"",
        trace: bytes = b"",
    ) -> None:
        await trio.lowlevel.checkpoint()
        assert (channel, trace) == (Channel.BULK, b"")
        if self.is_broken:
            raise PeerUnreachable(f"{peer} is gone")
        self.said.append((message, tail))

    def kinds(self) -> list[type[Record]]:
        return [type(message) for message, _ in self.said]


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
def circuits(line: Line) -> Circuits:
    return Circuits(line)


def heard(line: Line, peer: PeerId, hop: Hop, data: bytes) -> None:
    line.messages[CircuitData](Incoming(peer, CircuitData(circuit=hop.number), data, b""))


async def test_write_is_cut_into_pieces_and_waits_for_credit(
    line: Line, circuits: Circuits, nursery: trio.Nursery
) -> None:
    hop = circuits.open(HIGH)
    data = bytes(range(256)) * ((CIRCUIT_WINDOW_BYTES + 1000) // 256 + 1)
    done = trio.Event()

    async def write() -> None:
        await hop.write_all(data)
        done.set()

    nursery.start_soon(write)
    await trio.testing.wait_all_tasks_blocked()
    assert not done.is_set()
    assert sum(len(tail) for _, tail in line.said) == CIRCUIT_WINDOW_BYTES
    assert max(len(tail) for _, tail in line.said) <= CIRCUIT_PIECE_BYTES_MAX
    line.hear(HIGH, CircuitCredit(circuit=hop.number, count=CIRCUIT_WINDOW_BYTES))
    await done.wait()
    assert b"".join(tail for _, tail in line.said) == data


async def test_reading_gives_credit_back_in_quarters(line: Line, circuits: Circuits) -> None:
    hop = circuits.open(HIGH)
    heard(line, HIGH, hop, bytes(CREDIT_BYTES_MIN + 5))
    assert len(await hop.read_some(CREDIT_BYTES_MIN - 1)) == CREDIT_BYTES_MIN - 1
    assert line.said == []
    assert len(await hop.read_some(10_000_000)) == 6
    assert line.said == [(CircuitCredit(circuit=hop.number, count=CREDIT_BYTES_MIN + 5), b"")]


async def test_bytes_beyond_credit_end_the_circuit_and_are_a_fault(
    line: Line, circuits: Circuits
) -> None:
    """A flood is never kept: not even what was read, until credit for it was given."""
    hop = circuits.open(HIGH)
    heard(line, HIGH, hop, bytes(CIRCUIT_WINDOW_BYTES))
    await hop.read_some(CREDIT_BYTES_MIN - 1)
    with pytest.raises(CircuitAbused, match=f"window {CIRCUIT_WINDOW_BYTES}") as caught:
        heard(line, HIGH, hop, b"x")
    assert (caught.value.peer, caught.value.penalty) == (HIGH, 50)
    assert hop.is_over


async def test_empty_data_and_unearned_credit_are_faults(line: Line, circuits: Circuits) -> None:
    one, two = circuits.open(HIGH), circuits.open(HIGH)
    with pytest.raises(CircuitAbused):
        heard(line, HIGH, one, b"")
    with pytest.raises(CircuitAbused, match="credit of 1 bytes"):
        line.hear(HIGH, CircuitCredit(circuit=two.number, count=1))
    with pytest.raises(StreamLost):
        await two.write_all(b"x")


async def test_end_lets_what_was_heard_be_read_and_nothing_be_written(
    line: Line, circuits: Circuits
) -> None:
    hop = circuits.open(HIGH)
    heard(line, HIGH, hop, b"last words")
    line.hear(HIGH, CircuitEnd(circuit=hop.number, why="enough"))
    assert await hop.read_some(4) == b"last"
    assert await hop.read_some(99) == b" words"
    assert await hop.read_some(99) == b""
    with pytest.raises(StreamLost, match="enough"):
        await hop.write_all(b"x")
    assert line.said == []


async def test_close_tells_the_neighbour_once(line: Line, circuits: Circuits) -> None:
    hop = circuits.open(HIGH)
    await hop.close("done")
    await hop.close("again")
    assert line.said == [(CircuitEnd(circuit=hop.number, why="done"), b"")]


async def test_neighbour_that_is_gone_ends_its_hops_only(line: Line, circuits: Circuits) -> None:
    line.meet(HIGH)
    line.meet(LOW)
    here, there = circuits.open(HIGH), circuits.open(LOW)
    line.lose(HIGH)
    assert here.is_over
    assert not there.is_over
    line.is_broken = True
    with pytest.raises(StreamLost, match="gone"):
        await there.write_all(b"x")
    await there.close("never raises")


def test_numbers_are_chosen_by_who_asks(circuits: Circuits) -> None:
    """`us` asks HIGH with even numbers and LOW with odd ones; each of them the other way."""
    assert [circuits.open(HIGH).number % 2 for _ in range(3)] == [0, 0, 0]
    assert [circuits.open(LOW).number % 2 for _ in range(3)] == [1, 1, 1]
    assert circuits.take(HIGH, 7).number == 7
    assert circuits.take(LOW, 8).number == 8


@pytest.mark.parametrize(("peer", "number"), [(HIGH, 8), (LOW, 7), (HIGH, 9)])
def test_number_of_another_is_refused(circuits: Circuits, peer: PeerId, number: int) -> None:
    circuits.take(HIGH, 9)
    with pytest.raises(CircuitAbused, match="not"):
        circuits.take(peer, number)
    assert len(circuits) == 1


@pytest.mark.parametrize("message", [CircuitData(circuit=2), CircuitCredit(2, 1)])
def test_circuit_that_was_never_opened_is_a_small_fault(
    line: Line, circuits: Circuits, message: Record
) -> None:
    assert len(circuits) == 0
    with pytest.raises(CircuitAbused, match="never opened") as caught:
        line.hear(HIGH, message)
    assert caught.value.penalty == 5


def test_end_of_what_was_never_taken_is_no_fault(line: Line, circuits: Circuits) -> None:
    """Whoever did not hear an answer in time says that it is over, also where it was refused."""
    line.hear(HIGH, CircuitEnd(circuit=2, why="the dial failed"))
    assert len(circuits) == 0


async def test_late_words_on_an_ended_circuit_are_no_fault(line: Line, circuits: Circuits) -> None:
    hop = circuits.open(HIGH)
    await hop.close("done")
    heard(line, HIGH, hop, b"crossed on the way")
    circuits.forget(hop)
    heard(line, HIGH, hop, b"and later still")
    line.hear(HIGH, CircuitEnd(circuit=hop.number, why="too"))
    assert len(circuits) == 0


async def test_ended_circuits_are_remembered_for_a_while_only(
    line: Line, circuits: Circuits
) -> None:
    hops: Sequence[Hop] = [circuits.open(HIGH) for _ in range(ENDED_REMEMBERED_MAX + 1)]
    for hop in hops:
        hop.end("over")
        circuits.forget(hop)
    heard(line, HIGH, hops[-1], b"x")
    with pytest.raises(CircuitAbused):
        heard(line, HIGH, hops[0], b"x")
