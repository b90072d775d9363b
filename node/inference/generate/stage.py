"""One stage of a generation as its requester sees it: at a worker, or at home in our own pool.

Both take steps with an explicit start and give back what goes on to the next stage. Whatever a
worker does wrong ends as `WorkerLost`; a value the model refuses is nobody's fault and stays
`InputMismatch`. Must not know the other stages.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec
import trio

from prsm.node.inference.evidence import Place
from prsm.node.inference.generate.book import BatchRoots, Book
from prsm.node.inference.generate.tape import Tape
from prsm.node.inference.links import Links, WorkerLost
from prsm.node.inference.runner import Stepping
from prsm.node.net.interface import CallRefused, Channel
from prsm.node.telemetry import traces
from prsm.protocol.errors import PrsmError
from prsm.protocol.generating import KvShape, Sampling
from prsm.protocol.ids import Digest, PeerId
from prsm.protocol.messages.audit import Side
from prsm.protocol.messages.generation import (
    AskStep,
    EndSession,
    FinishSession,
    OpenSession,
    SessionOpened,
    StepDone,
    session_statement,
)
from prsm.protocol.messages.pipe import InputMismatch, WorkerFailed
from prsm.protocol.messages.steps import PositionMismatch, Step
from prsm.protocol.receipts import Feed, WorkReceipt, sign_feed
from prsm.protocol.tensors import Dtype, Tensor, TensorHead
from prsm.protocol.transactions.payloads import Unit

_VALUES: Final = "input_mismatch"  # the refusal that no other worker would take back


class Stage(Protocol):
    """Where the steps of one stage are done."""

    @property
    def name(self) -> str:
        """Who does it, for a person."""
        ...

    @property
    def class_id(self) -> bytes:
        """Determinism class; known once it is open."""
        ...

    @property
    def left_s(self) -> float | None:
        """For how long it goes on, if its worker said that it goes away."""
        ...

    @property
    def missing(self) -> int:
        """Positions until its batch is complete; 0 between two batches."""
        ...

    async def open(self) -> None:
        """Make it ready, with nothing in its cache. The caller sets the deadline.

        Raises:
            WorkerLost: it is not there, or refuses.
        """
        ...

    async def step(
        self, start: int, sizes: Sequence[int], carried: Tensor, *, is_history: bool = False
    ) -> Tensor:
        """Run steps; the cut tensor of all positions, or the token of each step.

        Raises:
            WorkerLost: it does no more.
            InputMismatch: the model refuses a value, such as a position beyond its table.
        """
        ...

    async def finish(self) -> WorkReceipt | None:
        """Its receipt, if there is one to have. The caller sets the deadline.

        Raises:
            WorkerLost: it shows none, or another one than it should.
        """
        ...

    def end(self) -> None:
        """No more comes."""
        ...


@dataclass(frozen=True, slots=True)
class Seat:
    """A unit of a locked job and the worker who does it."""

    peer: PeerId
    job: bytes
    unit: int
    worker: bytes
    spec: Unit
    rows: tuple[int, ...]  # of the job's batches


class RemoteStage:
    """A stage at a worker.

    Args:
        links: to it.
        seat: who does it, under which lock.
        shape: of its tensors.
        positions: at most.
        sampling: how a token is chosen, if it is the last stage.
        before: the stage that was lost at this seat; the unit has one receipt for both.
    """

    def __init__(
        self,
        links: Links,
        seat: Seat,
        shape: KvShape,
        *,
        positions: int,
        sampling: Sampling | None,
        before: "RemoteStage | None" = None,
    ) -> None:
        self._links, self.seat, self._shape, self._before = links, seat, shape, before
        self._positions = positions
        self._sampling = sampling if shape.is_last else None
        first = seat.spec.first
        self.book = Book(seat.rows[first : first + seat.spec.count], self._sampling)
        self._tape = Tape(self._sampling)
        self._is_kept = False  # the last batch, if it is short
        self._fed: set[tuple[int, int, Digest, Digest]] = set()  # with the last step, see `_fed_as`
        self.is_alone = before is None  # at its seat
        if before is not None:
            before.is_alone = False
        self.is_well = False  # did it answer the last step as it should?
        self.class_id = b""
        self.load_ms = 0
        self.compute_us = 0

    @property
    def name(self) -> str:
        """The peer."""
        return str(self.seat.peer)

    @property
    def left_s(self) -> float | None:
        """As `Stage.left_s`."""
        return self._links.departures.left_s(self.seat.peer)

    @property
    def missing(self) -> int:
        """As `Stage.missing`."""
        return self.book.missing

    async def open(self) -> None:
        """As `Stage.open`."""
        chain, network, seat = self._links.chain, self._links.network, self.seat
        unsigned = OpenSession(
            job=seat.job,
            unit=seat.unit,
            worker=seat.worker,
            positions=self._positions,
            sampling=self._sampling,
            signature=bytes(64),
        )
        statement = session_statement(
            unsigned, chain_id=chain.chain_id, requester_peer=network.peer_id
        )
        opened = msgspec.structs.replace(unsigned, signature=chain.signer.sign(statement))
        own = traces.shared_id(seat.job, seat.unit, seat.worker)
        try:
            with traces.span("session", own=own, prsm__unit=seat.unit):
                answer, _ = await network.call(seat.peer, opened, channel=Channel.CTL)
        except PrsmError as error:
            raise self._lost("did not open a session", error) from error
        if not isinstance(answer, SessionOpened) or (answer.job, answer.unit) != (
            seat.job,
            seat.unit,
        ):
            raise self._faulty(f"{type(answer).__name__} opens no session")
        if answer.position != self.book.position:
            raise WorkerLost(f"its session holds {answer.position} positions, none were sent")
        self.class_id, self.load_ms = answer.class_id, answer.load_ms

    async def step(
        self, start: int, sizes: Sequence[int], carried: Tensor, *, is_history: bool = False
    ) -> Tensor:
        """As `Stage.step`."""
        self.is_well = False
        due = () if is_history else self.book.fed(sizes, carried)
        feeds = [self._sign(*roots) for roots in due]
        rows = self.seat.rows[self.seat.spec.first :]
        self._fed = {(index, rows[index], before, side) for index, before, side in due}
        ask = AskStep(
            job=self.seat.job,
            unit=self.seat.unit,
            start_position=start,
            sizes=tuple(sizes),
            is_history=is_history,
            tensor=carried.head,
            feeds=tuple(feed.signature for feed in feeds),
        )
        network = self._links.network
        try:
            answer, tail = await network.call(
                self.seat.peer, ask, channel=Channel.BULK, tail=carried.data
            )
        except CallRefused as error:
            if error.refusal == _VALUES:
                raise InputMismatch(error.what) from error
            raise self._lost(f"no step at position {start}", error) from error
        except PrsmError as error:
            raise self._lost(f"no step at position {start}", error) from error
        if not isinstance(answer, StepDone) or answer.position != start + sum(sizes):
            raise self._faulty(f"{type(answer).__name__} is no answer to steps from {start}")
        made = Tensor(answer.tensor, tail)
        if not fits(made, self._shape, sizes):
            raise self._faulty(f"{answer.tensor.name} {list(answer.tensor.shape)} is not due")
        self.is_well = True
        if is_history:
            self.book.skip(self.book.position + sum(sizes))
        else:
            self._tape.add(self.book.position, sizes, carried, made)
            self.book.add(sizes, carried, made, is_last=self._shape.is_last)
        for feed in feeds:
            await self._keep(feed, self.book.done())
        self.compute_us += answer.compute_us
        return made

    async def finish(self) -> WorkReceipt | None:
        """As `Stage.finish`; the last batch, if it is short, is signed for with it."""
        seat, rest = self.seat, self.book.rest()
        if self._before is not None and not self.book.position:
            return await self._before.finish()
        if not self.answered():
            return None
        feeds = [] if rest is None else [self._sign(rest.index, rest.input_root, rest.side_root)]
        call = FinishSession(seat.job, seat.unit, tuple(feed.signature for feed in feeds))
        receipt = await self._links.receipt(seat.peer, call, worker=seat.worker)
        shown = self._shown(receipt)
        if not self._is_ours(shown):
            raise self._faulty("a receipt that is not of what it answered")
        if rest is not None and rest in shown and not self._is_kept:
            self._is_kept = True
            await self._keep(feeds[0], (rest,))
        return receipt

    def end(self) -> None:
        """As `Stage.end`."""
        message = EndSession(self.seat.job, self.seat.unit)
        self._links.network.send_nowait(self.seat.peer, message, channel=Channel.BULK)

    def _shown(self, receipt: WorkReceipt) -> list[BatchRoots]:
        first = self.seat.spec.first
        return [
            BatchRoots(
                *(b.index - first, b.rows),
                *map(Digest, (b.input_root, b.side_root, b.output_root)),
            )
            for b in receipt.batches
        ]

    def _is_ours(self, shown: Sequence[BatchRoots]) -> bool:
        if self.is_alone and self.is_well:
            return shown == self.answered()
        # What a lost one had done may be gone with its session, and a step whose answer was lost
        # may be done; all else that is shown was answered, in a later session as well.
        indexes, answered = [roots.index for roots in shown], self.answered()
        others = {_fed_as(roots) for roots in set(shown).difference(answered)}
        unheard = self.unheard().difference(map(_fed_as, answered))
        return indexes == sorted(set(indexes)) and others <= unheard

    def answered(self) -> list[BatchRoots]:
        """Batches its worker answered at this seat, the last of a stage with the rows it has."""
        rest = self.book.rest()
        own = [*self.book.done(), *(() if rest is None else (rest,))]
        return own if self._before is None else [*self._before.answered(), *own]

    def unheard(self) -> set[tuple[int, int, Digest, Digest]]:
        """Batches signed for at this seat with a step that was not answered, see `_fed_as`."""
        own = set() if self.is_well else self._fed
        return own if self._before is None else own | self._before.unheard()

    def _sign(self, index: int, before: bytes, side: bytes) -> Feed:
        chain, seat = self._links.chain, self.seat
        feed = Feed(seat.job, seat.unit, seat.spec.first + index, before, side, bytes(64))
        return sign_feed(feed, chain.signer, chain_id=chain.chain_id)

    async def _keep(self, feed: Feed, batches: Sequence[BatchRoots]) -> None:
        """Keep what an auditor will ask for; the worker has it, too, if we have no room."""
        seat, evidence = self.seat, self._links.evidence
        index = feed.batch - seat.spec.first
        rows = next(roots.rows for roots in batches if roots.index == index)
        taped = self._tape.take(self.book.start_of(index), rows)
        if evidence is None:
            return
        place = Place(seat.job, seat.unit, feed.batch, Side.IN, seat.worker)
        await evidence.hand_over(place, seat.spec, (taped.inputs, taped.outputs), feed)

    def _lost(self, what: str, error: PrsmError) -> WorkerLost:
        return self._links.lost(self.seat.peer, what, error)

    def _faulty(self, what: str) -> WorkerLost:
        return self._links.faulty(self.seat.peer, what)


class HomeStage:
    """A stage in our own pool: no lock, no receipt, nobody sees what goes in."""

    name = "home"
    left_s = None
    missing = 0

    def __init__(
        self,
        session: Stepping,
        shape: KvShape,
        *,
        number: int,
        positions: int,
        sampling: Sampling | None,
    ) -> None:
        self._session, self._shape, self._number = session, shape, number
        self._quota = positions * shape.bytes_per_position
        self._sampling = sampling if shape.is_last else None
        self.class_id = session.class_id

    async def open(self) -> None:
        """Forget what an earlier session left under this number."""
        try:
            await self._session.drop(self._number)
        except PrsmError as error:
            raise WorkerLost(f"home: {error.what}") from error

    async def step(
        self, start: int, sizes: Sequence[int], carried: Tensor, *, is_history: bool = False
    ) -> Tensor:
        """As `Stage.step`."""
        del is_history
        call = Step(
            session=self._number,
            start_position=start,
            sizes=tuple(sizes),
            quota_bytes=self._quota,
            sampling=self._sampling,
            tensor=carried.head,
        )
        try:
            return await self._session.step(call, carried)
        except (WorkerFailed, PositionMismatch) as error:
            raise WorkerLost(f"home: {error.what}") from error

    async def finish(self) -> WorkReceipt | None:
        """Nobody is paid for what is done at home."""
        await trio.lowlevel.checkpoint()
        return None

    def end(self) -> None:
        """The cache goes with the child, or with the next session of this number."""


def _fed_as(roots: BatchRoots) -> tuple[int, int, Digest, Digest]:
    """What we sign for of a batch: all but what came out."""
    return roots.index, roots.rows, roots.input_root, roots.side_root


def fits(made: Tensor, shape: KvShape, sizes: Sequence[int]) -> bool:
    """Is it what steps of these sizes give?"""
    rest = tuple(size for size in shape.made.shape[2:] if isinstance(size, int))
    due = TensorHead(shape.made.name, shape.made.dtype, (1, sum(sizes), *rest))
    if shape.is_last:
        due = TensorHead(shape.made.name, Dtype.I64, (len(sizes),))
    return made.head == due and len(made.data) == due.nbytes
