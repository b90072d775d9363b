"""The line before a shard: turns, joining, cancellation, bounds."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from prsm.node.inference.fairness import QueueBounds
from prsm.node.inference.joining import Joiner, Tensors, rows_of
from prsm.node.inference.line import Line, Ran
from prsm.node.net.interface import Busy
from prsm.protocol.messages.pipe import InputMismatch, WorkerFailed
from prsm.protocol.tensors import Tensor
from tests.tools.work import tensor

BAD = 255


@dataclass
class Doubler:
    """Doubles bytes; where `is_touching`, adds the largest byte of all rows as well."""

    is_touching: bool = False
    odd_sizes: frozenset[int] = frozenset()  # numbers of rows whose bits are others
    cpu_us: int = 0
    seen: list[int] = field(default_factory=list)  # rows of each run
    cancelled: int = 0
    deaths: int = 0
    class_id: bytes = b"c" * 32

    async def run(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        self.seen.append(rows_of(tensors))
        try:
            await trio.sleep(1)
        except trio.Cancelled:
            self.cancelled += 1
            raise
        if self.deaths:
            self.deaths -= 1
            raise WorkerFailed("it died")
        self.cpu_us += 1000 * rows_of(tensors)
        [given] = tensors
        if BAD in given.data:
            raise InputMismatch("NaN")
        extra = max(given.data) if self.is_touching else 0
        extra += rows_of(tensors) in self.odd_sizes
        return (Tensor(given.head, bytes((2 * b + extra) % 251 for b in given.data)),)

    async def compare(self, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> int:
        await trio.lowlevel.checkpoint()
        return 0 if tuple(ours) == tuple(theirs) else 1


GOLDEN: Tensors = (tensor("x", [bytes([row, row + 1, 90 - row]) for row in range(8)]),)


def rows(count: int, first: int = 10, *, width: int = 3) -> Tensors:
    return (tensor("x", [bytes([first + row] * width) for row in range(count)]),)


def doubled(tensors: Tensors) -> bytes:
    return bytes(2 * b % 251 for b in tensors[0].data)


async def test_requests_that_came_during_a_run_are_joined_and_have_their_own_bits(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    session = Doubler()
    line = Line(session, joiner=Joiner(GOLDEN))
    nursery.start_soon(line.work)
    await wait_all_tasks_blocked()  # or it could begin before all have asked
    ran: dict[int, Ran] = {}

    async def ask(place: int) -> None:
        ran[place] = await line.ask(rows(1, 10 + place), who=bytes([place]))

    async with trio.open_nursery() as asking:
        for place in range(8):
            asking.start_soon(ask, place)
    nursery.cancel_scope.cancel()
    assert all(ran[place].outputs[0].data == doubled(rows(1, 10 + place)) for place in range(8))
    assert max(found.joined for found in ran.values()) == 8
    proof = [32, *[1] * 8, *[2] * 4, 4, 4, 8, 16, 32]
    assert session.seen == [*proof, 8]
    assert [found.cpu_us for found in ran.values()] == [1000] * 8


@pytest.mark.parametrize(
    ("session", "counts"),
    [
        (Doubler(is_touching=True), {1}),  # a row moves another's result
        (Doubler(odd_sizes=frozenset({1})), {1}),  # one row alone has other bits than in company
    ],
)
async def test_rows_are_not_joined_where_bits_would_change(
    nursery: trio.Nursery, autojump_clock: MockClock, session: Doubler, counts: set[int]
) -> None:
    line = Line(session, joiner=Joiner(GOLDEN))
    nursery.start_soon(line.work)
    await wait_all_tasks_blocked()  # or it could begin before all have asked
    found: list[Ran] = []

    async def ask(place: int) -> None:
        found.append(await line.ask(rows(1, 10 + place), who=bytes([place])))

    async with trio.open_nursery() as asking:
        for place in range(4):
            asking.start_soon(ask, place)
    nursery.cancel_scope.cancel()
    assert {ran.joined for ran in found} == counts
    assert session.seen[-4:] == [1] * 4


async def test_rows_of_other_shapes_run_alone(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    line = Line(Doubler(), joiner=Joiner(GOLDEN))
    nursery.start_soon(line.work)
    await wait_all_tasks_blocked()  # or it could begin before all have asked
    joined: dict[int, int] = {}

    async def ask(width: int) -> None:
        given = rows(1, width=width)
        ran = await line.ask(given, who=bytes([width]))
        assert ran.outputs[0].data == doubled(given)
        joined[width] = ran.joined

    async with trio.open_nursery() as asking:
        for width in (3, 5, 7):
            asking.start_soon(ask, width)
    nursery.cancel_scope.cancel()
    assert joined == {3: 1, 5: 1, 7: 1}


async def test_guilty_request_of_a_joined_run_fails_alone(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    line = Line(Doubler(), joiner=Joiner(GOLDEN))
    nursery.start_soon(line.work)
    await wait_all_tasks_blocked()  # or it could begin before all have asked
    ended: dict[int, str] = {}

    async def ask(first: int) -> None:
        try:
            await line.ask(rows(1, first), who=bytes([first]))
            ended[first] = "done"
        except InputMismatch as error:
            ended[first] = error.reason

    async with trio.open_nursery() as asking:
        for first in (20, BAD, 30):
            asking.start_soon(ask, first)
    nursery.cancel_scope.cancel()
    assert ended == {20: "done", BAD: "input_mismatch", 30: "done"}


async def test_cancelled_request_ends_its_run_and_frees_the_line(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    session = Doubler()
    line = Line(session)
    nursery.start_soon(line.work)
    await wait_all_tasks_blocked()  # or it could begin before all have asked
    async with trio.open_nursery() as asking:
        asking.start_soon(_ask_for_ever, line)
        await wait_all_tasks_blocked()
        assert session.seen == [1]
        asking.cancel_scope.cancel()
    ran = await line.ask(rows(2), who=b"b")
    assert (session.cancelled, ran.outputs[0].data) == (1, doubled(rows(2)))
    nursery.cancel_scope.cancel()


async def test_cancelled_request_that_waits_never_runs(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    session = Doubler()
    line = Line(session)
    nursery.start_soon(line.work)
    await wait_all_tasks_blocked()  # or it could begin before all have asked
    async with trio.open_nursery() as asking:
        asking.start_soon(_ask_for_ever, line)
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as waiting:
            waiting.start_soon(_ask_for_ever, line)
            await wait_all_tasks_blocked()
            waiting.cancel_scope.cancel()
        await trio.sleep(5)
    assert (session.seen, session.cancelled) == ([1], 0)
    nursery.cancel_scope.cancel()


async def test_run_that_others_share_goes_on_when_one_leaves(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    session = Doubler()
    line = Line(session, joiner=Joiner(GOLDEN))
    await line._joiner.prove(session, rows(1))  # type: ignore[union-attr]  # it has one
    nursery.start_soon(line.work)
    await wait_all_tasks_blocked()  # or it could begin before all have asked
    done: list[Ran] = []

    async def stay() -> None:
        done.append(await line.ask(rows(1, 40), who=b"stays"))

    async with trio.open_nursery() as asking, trio.open_nursery() as leaving:
        leaving.start_soon(_ask_for_ever, line)
        asking.start_soon(stay)
        await wait_all_tasks_blocked()
        leaving.cancel_scope.cancel()
    assert (session.cancelled, done[0].outputs[0].data) == (0, doubled(rows(1, 40)))
    nursery.cancel_scope.cancel()


async def test_full_line_says_when_to_ask_again(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    line = Line(Doubler(), bounds=QueueBounds(items_each=2))
    nursery.start_soon(line.work)
    await wait_all_tasks_blocked()  # or it could begin before all have asked
    await line.ask(rows(1), who=b"a")  # so that it knows how long a row takes
    async with trio.open_nursery() as asking:
        for _ in range(3):  # one runs, two wait
            asking.start_soon(_ask_for_ever, line)
            await wait_all_tasks_blocked()
        with pytest.raises(Busy) as caught:
            await line.ask(rows(1), who=b"a")
        assert caught.value.retry_after_ms >= 50
        assert (await line.ask(rows(1), who=b"b")).joined == 1  # another has room
        asking.cancel_scope.cancel()
    nursery.cancel_scope.cancel()


async def test_dead_worker_is_replaced_once(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    session = Doubler(deaths=1)
    line = Line(session)
    nursery.start_soon(line.work)
    await wait_all_tasks_blocked()  # or it could begin before all have asked
    assert await line.run(rows(1)) == (Tensor(rows(1)[0].head, doubled(rows(1))),)
    session.deaths = 2
    with pytest.raises(WorkerFailed):
        await line.run(rows(1))
    nursery.cancel_scope.cancel()


async def test_who_waits_at_a_closed_line_is_told(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    line, told = Line(Doubler()), 0

    async def ask(who: bytes) -> None:
        nonlocal told
        with pytest.raises(WorkerFailed):
            await line.ask(rows(1), who=who)
        told += 1

    async with trio.open_nursery() as asking, trio.open_nursery() as working:
        working.start_soon(line.work)
        for who in (b"a", b"b", b"c"):
            asking.start_soon(ask, who)
        await wait_all_tasks_blocked()
        working.cancel_scope.cancel()
    assert told == 3


async def _ask_for_ever(line: Line) -> None:
    await line.ask(rows(1), who=b"a")
