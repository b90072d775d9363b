"""The line before one loaded shard: fair between requesters, bounded, joined where proved.

One task runs what waits, one run at a time. Nothing waits for company: what came while the last
run was on is what the next one may join, so a lone request is not delayed. Cancelling who asked
takes the request out of the line, or ends the child's run when nobody else is in it. Must not
know jobs, receipts or peers. Source: docs/spec/work.md, "Serving".
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

from prsm.node.inference.fairness import Entry, FairQueue, QueueBounds, QueueFull
from prsm.node.inference.interface import Session
from prsm.node.inference.joining import (
    ELEMENTS_MAX,
    ROWS_MAX,
    Joiner,
    Tensors,
    join,
    row_shape,
    rows_of,
    take_rows,
)
from prsm.node.inference.runner import Stepping
from prsm.node.net.interface import Busy
from prsm.protocol.errors import PrsmError, Unsupported
from prsm.protocol.messages.pipe import WorkerFailed
from prsm.protocol.messages.steps import Step
from prsm.protocol.tensors import Tensor

OURSELVES: Final = b""  # who asks when it is this node
RETRY_MS_MIN: Final = 50
RETRY_MS_MAX: Final = 10_000
_EWMA: Final = 0.2

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of one micro-batch.

    Attributes:
        outputs: of the shard, in the graph's order.
        cpu_us: processor time; of a joined run its part by cost.
        joined: micro-batches of that run, 1 when it ran alone.
    """

    outputs: tuple[Tensor, ...]
    cpu_us: int
    joined: int


@dataclass(slots=True, eq=False)
class _Ask:
    tensors: Tensors
    done: trio.Event = field(default_factory=trio.Event)
    ran: Ran | None = None
    error: PrsmError | None = None
    is_gone: bool = False  # who asked was cancelled


@dataclass(slots=True)
class _Round:
    members: list[Entry[_Ask]]
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


class Line:
    """A session that many share; `work` must run meanwhile.

    Args:
        session: runs one micro-batch at a time.
        joiner: None: every micro-batch runs alone.
        bounds: of what may wait.
    """

    def __init__(
        self, session: Session, *, joiner: Joiner | None = None, bounds: QueueBounds | None = None
    ) -> None:
        self._session, self._joiner = session, joiner
        self._queue: FairQueue[_Ask] = FairQueue(bounds)
        self._round: _Round | None = None
        self._changed = trio.Event()
        self._us_per_cost = 0.0
        self.runs = self.asked = 0  # their ratio is how much was joined

    @property
    def class_id(self) -> bytes:
        """Of the session."""
        return self._session.class_id

    @property
    def cpu_us(self) -> int:
        """Of all runs of the session."""
        return self._session.cpu_us

    @property
    def waiting_ms(self) -> int:
        """How long what waits now will take, from the runs before."""
        return int(self._queue.cost * self._us_per_cost / 1000)

    async def run(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Run a micro-batch of our own, in its turn.

        Raises:
            Busy: the line is full.
            LocalError: as the session's `run`.
        """
        return (await self.ask(tensors, who=OURSELVES)).outputs

    async def compare(self, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> int:
        """As the session's `compare`; it waits for the run that is on, not in line."""
        return await self._session.compare(ours, theirs)

    async def step(self, call: Step, tensor: Tensor) -> Tensor:
        """As `Stepping.step`: between two runs, since a single token waits for no company."""
        return await self._stepping().step(call, tensor)

    async def drop(self, number: int) -> None:
        """As `Stepping.drop`."""
        await self._stepping().drop(number)

    async def ask(self, tensors: Sequence[Tensor], *, who: bytes) -> Ran:
        """Run a micro-batch for a requester, in its turn.

        Raises:
            Busy: the line is full, or this requester's part of it; says when to ask again.
            LocalError: as the session's `run`.
        """
        ask = _Ask(tuple(tensors))
        size = sum(len(tensor.data) for tensor in tensors)
        try:
            entry = self._queue.put(who, ask, cost=_cost(ask.tensors), size=size)
        except QueueFull as error:
            raise Busy(error.what, retry_after_ms=self.retry_after_ms()) from error
        self.asked += 1
        self._wake()
        try:
            await ask.done.wait()
        except trio.Cancelled:
            self._leave(entry)
            raise
        if ask.error is not None:
            raise ask.error
        assert ask.ran is not None
        return ask.ran

    def retry_after_ms(self) -> int:
        """When half of what waits will be done."""
        return min(RETRY_MS_MAX, max(RETRY_MS_MIN, self.waiting_ms // 2))

    async def work(self) -> None:
        """Run what waits until cancelled; whoever still waits then is told so."""
        try:
            while True:
                while (first := self._queue.take()) is None:
                    await self._changed.wait()
                await self._serve(first)
        finally:
            while (left := self._queue.take()) is not None:
                _fail([left], WorkerFailed("the shard is closed"))

    async def _serve(self, first: Entry[_Ask]) -> None:
        self._round = _Round([first, *await self._company(first.item)])
        try:
            with self._round.scope:
                await self._run_together(self._round.members)
        finally:
            _fail(self._round.members, WorkerFailed("the run was ended"))
            self._round = None

    async def _company(self, first: _Ask) -> list[Entry[_Ask]]:
        """Who may join: as many as the proof and the bounds allow."""
        joiner = self._joiner
        if joiner is None or not self._queue.items:
            return []
        shape = row_shape(first.tensors)
        sizes = joiner.sizes(shape)
        if sizes is None:
            sizes = await joiner.prove(self._session, first.tensors)
            log.info("rows of shape %s are alike in runs of %s", shape, sorted(sizes))
        return self._gather(first, sizes)

    def _gather(self, first: _Ask, sizes: frozenset[int]) -> list[Entry[_Ask]]:
        """Who waits with rows of that shape, as many as the largest proved run takes."""
        shape, rows, cost = row_shape(first.tensors), rows_of(first.tensors), _cost(first.tensors)
        found: list[Entry[_Ask]] = []
        if rows not in sizes:
            return found
        per_row = max(1, cost // max(1, rows))
        most = max((s for s in sizes if s <= min(ROWS_MAX, ELEMENTS_MAX // per_row)), default=0)

        def fits(other: _Ask) -> bool:
            count = rows_of(other.tensors)
            return row_shape(other.tensors) == shape and count in sizes and rows + count <= most

        # Any number up to `most` is filled to a proved one with rows that are thrown away.
        while rows < most and (entry := self._queue.take_alike(fits)) is not None:
            found.append(entry)
            rows += rows_of(entry.item.tensors)
        return found

    async def _run_together(self, members: list[Entry[_Ask]]) -> None:
        if len(members) > 1 and await self._run_joined(members):
            return
        for member in members:
            if not member.item.is_gone and not member.item.done.is_set():
                await self._run_alone(member)

    async def _run_joined(self, members: list[Entry[_Ask]]) -> bool:
        """Run all at once; False if that failed: then each runs alone, and the guilty one fails."""
        parts = [member.item.tensors for member in members]
        counts = [rows_of(part) for part in parts]
        rows = join(_filled(parts, sum(counts), self._sizes_of(parts[0])))
        before = self._session.cpu_us
        try:
            outputs = await self._session.run(rows)
        except PrsmError as error:
            log.debug("a joined run failed: %s", error.what)
            return False
        total = rows_of(rows)
        if any(tensor.head.shape[:1] != (total,) for tensor in outputs):
            return False
        spent, place = max(0, self._session.cpu_us - before), 0
        self._note(spent, sum(member.cost for member in members))
        for member, count in zip(members, counts, strict=True):
            part = take_rows(outputs, place, count)
            member.item.ran = Ran(part, spent * count // sum(counts), len(members))
            member.item.done.set()
            place += count
        return True

    def _sizes_of(self, tensors: Tensors) -> frozenset[int]:
        assert self._joiner is not None
        return self._joiner.sizes(row_shape(tensors)) or frozenset()

    async def _run_alone(self, member: Entry[_Ask]) -> None:
        ask, before = member.item, self._session.cpu_us
        try:
            outputs = await _run(self._session, ask.tensors)
        except PrsmError as error:
            _fail([member], error)
            return
        spent = max(0, self._session.cpu_us - before)
        self._note(spent, member.cost)
        ask.ran = Ran(outputs, spent, 1)
        ask.done.set()

    def _note(self, spent_us: int, cost: int) -> None:
        self.runs += 1
        now = spent_us / max(1, cost)
        self._us_per_cost += (now - self._us_per_cost) * (_EWMA if self._us_per_cost else 1.0)

    def _leave(self, entry: Entry[_Ask]) -> None:
        entry.item.is_gone = True
        running = self._round
        if not self._queue.remove(entry) and running is not None and entry in running.members:
            still = (m for m in running.members if not m.item.is_gone and not m.item.done.is_set())
            if next(still, None) is None:
                running.scope.cancel()

    def _stepping(self) -> Stepping:
        if not isinstance(self._session, Stepping):
            raise Unsupported("this runner keeps no caches of generating sessions")
        return self._session

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


def _cost(tensors: Tensors) -> int:
    """Elements of the first input: tokens of texts, values of rows of numbers."""
    count = 1
    for size in tensors[0].head.shape if tensors else ():
        count *= size
    return count


def _filled(parts: list[Tensors], rows: int, sizes: frozenset[int]) -> list[Tensors]:
    """Repeat first rows until their number is a proved one."""
    wanted = min((size for size in sizes if size >= rows), default=rows)
    spare = wanted - rows
    while spare > 0:
        part = take_rows(parts[0], 0, min(spare, rows_of(parts[0])))
        parts = [*parts, part]
        spare -= rows_of(part)
    return parts


def _fail(members: Sequence[Entry[_Ask]], error: PrsmError) -> None:
    """End the wait of those who have no answer yet."""
    for member in members:
        if not member.item.done.is_set():
            member.item.error = error
            member.item.done.set()


async def _run(session: Session, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Run a micro-batch; a child that died is replaced once, since rows are not to blame."""
    try:
        return await session.run(tensors)
    except WorkerFailed as error:
        log.warning("a worker is replaced: %s", error.what)
        return await session.run(tensors)
