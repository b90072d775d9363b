"""Generating sessions at a worker: how many; of each whose it is, where it stands, what it cost.

State only; no tasks, no network. The cache itself is in the child.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Final

import trio

from prsm.consensus.ledger.records import Job
from prsm.node.inference.generate.book import Book
from prsm.node.inference.generate.tape import Tape, Taped
from prsm.node.inference.interface import PolicyRefused
from prsm.node.inference.line import Line
from prsm.node.inference.worked import receipt_of
from prsm.node.net.interface import Busy
from prsm.protocol.errors import WireError
from prsm.protocol.generating import KvShape, Sampling, row_bytes
from prsm.protocol.ids import Digest, PeerId
from prsm.protocol.limits import MIB, TENSOR_CHUNK_BYTES_MAX
from prsm.protocol.messages.generation import AskStep, SessionOpened
from prsm.protocol.messages.models import Shard
from prsm.protocol.messages.pipe import InputMismatch
from prsm.protocol.messages.steps import PositionMismatch, QuotaFull
from prsm.protocol.receipts import BatchResult, Feed, WorkReceipt
from prsm.protocol.tensors import ITEM_BYTES, Tensor
from prsm.protocol.transactions.payloads import Unit

IDLE_MS: Final = 60_000
HeldKey = tuple[PeerId, bytes, int]  # never the session alone: peer, job, unit


@dataclass(frozen=True, slots=True)
class Room:
    """How much of this node sessions may take.

    Attributes:
        sessions_max: at one time.
        per_peer_max: of one requester.
        bytes_max: caches of all; a token of 8 layers x 512 takes 32 KiB.
        bytes_per_peer_max: of one requester.
        idle_ms: a session without a step for so long is forgotten.
    """

    sessions_max: int = 64
    per_peer_max: int = 16
    bytes_max: int = 512 * MIB
    bytes_per_peer_max: int = 256 * MIB
    idle_ms: int = IDLE_MS

    def check(self, held: "Held", others: Collection["Held"]) -> None:
        """Is there room for one more beside those that are open?

        Raises:
            Busy: too many sessions, of all or of this peer.
            QuotaFull: no room for its cache.
        """
        own = [other for other in others if other.peer == held.peer]
        if len(others) >= self.sessions_max or len(own) >= self.per_peer_max:
            raise Busy(
                f"{len(others)} sessions are open, at most {self.sessions_max}; "
                f"{len(own)} of this peer, at most {self.per_peer_max}"
            )
        taken, mine = (sum(h.quota_bytes for h in sessions) for sessions in (others, own))
        left = min(self.bytes_max - taken, self.bytes_per_peer_max - mine)
        if held.quota_bytes > left:
            raise QuotaFull(
                f"{held.positions_max} positions take {held.quota_bytes} bytes of cache, "
                f"{max(0, left)} are free for this peer",
                hint="ask for fewer tokens, or wait until other sessions end",
            )


@dataclass(slots=True, eq=False)
class Held:
    """Work on one unit of a generation, for one peer."""

    peer: PeerId
    job: Job
    unit: int
    shard: Shard
    shape: KvShape
    number: int  # of the session in the child
    positions_max: int
    sampling: Sampling | None
    started_height: int
    last_ms: int
    book: Book = field(init=False)
    tape: Tape = field(init=False)
    line: Line | None = None
    class_id: bytes = b""
    feeds: dict[int, Feed] = field(default_factory=dict)
    earlier: dict[int, tuple[BatchResult, Feed]] = field(default_factory=dict)  # see `go_on`
    last_start: int = 0  # where the last steps began
    compute_us: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    is_running: bool = False
    is_claimed: bool = False
    is_bound: bool = False  # its receipt is kept and on its way to the ledger
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)  # of the steps that run
    closing: trio.Event = field(default_factory=trio.Event)

    def __post_init__(self) -> None:
        rows = self.job.batch_rows[self.spec.first : self.spec.first + self.spec.count]
        self.book = Book(rows, self.sampling)
        self.tape = Tape(self.sampling)

    @property
    def key(self) -> HeldKey:
        """Names the session."""
        return (self.peer, self.job.job, self.unit)

    @property
    def spec(self) -> Unit:
        """The unit as locked."""
        return self.job.units[self.unit]

    @property
    def quota_bytes(self) -> int:
        """Room set aside for the cache."""
        return self.positions_max * self.shape.bytes_per_position

    @property
    def is_closed(self) -> bool:
        """Does it take no more steps?"""
        return self.closing.is_set()

    def opened(self, *, idle_ms: int, load_ms: int) -> SessionOpened:
        """The answer to an opening: how far it is."""
        return SessionOpened(
            job=self.job.job,
            unit=self.unit,
            class_id=self.class_id,
            position=self.book.position,
            idle_ms=idle_ms,
            load_ms=load_ms,
        )

    def close(self) -> None:
        """Stop what runs and forget the cache."""
        self.closing.set()
        self.scope.cancel()

    def check(self, ask: AskStep, tail: bytes) -> Tensor:
        """The carried tensor of steps that may be run now.

        Raises:
            Busy: the steps before these still run.
            PositionMismatch: they start elsewhere.
            QuotaFull: more positions than were set aside.
            InputMismatch, WireError: another tensor than the steps take.
        """
        if self.is_running:
            raise Busy("the steps before these still run")
        here = self.book.position
        if ask.start_position != here:
            raise PositionMismatch(
                f"the step starts at position {ask.start_position}, this session holds {here}",
                hint="replay the history from the position that is held",
            )
        count = sum(ask.sizes)
        if here + count > self.positions_max:
            raise QuotaFull(
                f"{here + count} positions, {self.positions_max} were set aside "
                f"({self.quota_bytes} bytes of cache)"
            )
        spec, head = self.shape.carried, ask.tensor
        rest = tuple(size for size in spec.shape[2:])
        if (head.name, head.dtype, head.shape[:2]) != (spec.name, spec.dtype, (1, count)) or (
            head.shape[2:] != rest
        ):
            raise InputMismatch(
                f"{head.name} is {head.dtype.name} {list(head.shape)}, these steps take "
                f"{spec.name} {spec.dtype.name} {[1, count, *rest]}"
            )
        widest = max(row_bytes(spec), ITEM_BYTES[spec.dtype]) * count
        if len(tail) != head.nbytes or widest > TENSOR_CHUNK_BYTES_MAX:
            raise WireError(
                f"steps with {len(tail)} bytes: {head.nbytes} are due, "
                f"at most {TENSOR_CHUNK_BYTES_MAX}"
            )
        return Tensor(head, tail)

    def took(self, ask: AskStep, carried: Tensor, made: Tensor, *, spent_us: int) -> None:
        """Note steps that were done."""
        self.last_start = self.book.position
        if ask.is_history:
            self.book.skip(self.book.position + sum(ask.sizes))
        else:
            self.tape.add(self.book.position, ask.sizes, carried, made)
            self.book.add(ask.sizes, carried, made, is_last=self.shape.is_last)
        self.compute_us += spent_us
        self.bytes_in += len(carried.data)
        self.bytes_out += len(made.data)

    def taped(self, index: int) -> Taped:
        """A batch that was done and fed, by its place in the unit; taken off the tape."""
        roots = next(r for r in (*self.book.done(), self.book.rest()) if r and r.index == index)
        return self.tape.take(self.book.start_of(index), roots.rows)

    def go_on(self, old: "Held") -> None:
        """Take over what an ended session of the unit did: there is one receipt for both.

        So nothing that was done goes unpaid, however little of it this session hears again; what
        it hears again is paid once.
        """
        said = {feed.batch: feed for feed in old.words()}
        self.earlier = {result.index: (result, said[result.index]) for result in old.results()}
        self.started_height = old.started_height
        self.compute_us += old.compute_us
        self.bytes_in += old.bytes_in
        self.bytes_out += old.bytes_out

    def check_said(self, batch: int, roots: tuple[bytes, bytes]) -> None:
        """Is it what went in as this batch before?

        Raises:
            PolicyRefused: no, and only one of the two would be paid.
        """
        if batch in self.earlier:
            result, _ = self.earlier[batch]
            if (result.input_root, result.side_root) != roots:
                raise PolicyRefused(f"batch {batch} was done from other inputs before")

    def short_batches(self) -> Iterator[tuple[int, tuple[Digest, Digest], Book]]:
        """What a word for a short batch may be for: its number in the job, its roots, its book.

        First as it stands, then as it stood before the last steps, whose answer may be lost.
        """
        for book in (self.book, self.book.until(self.last_start)):
            rest = book.rest()
            batch = None if rest is None else self.spec.first + rest.index
            if rest is not None and batch not in self.feeds and batch not in self.earlier:
                yield self.spec.first + rest.index, (rest.input_root, rest.side_root), book

    def words(self) -> tuple[Feed, ...]:
        """The requester's for what was done, by batch."""
        said = {batch: feed for batch, (_, feed) in self.earlier.items()} | self.feeds
        return tuple(said[batch] for batch in sorted(said))

    def results(self) -> tuple[BatchResult, ...]:
        """Batches that were done and fed, in the job's numbers."""
        found = {batch: result for batch, (result, _) in self.earlier.items()}
        found |= {result.index: result for result in self._own_results()}
        return tuple(found[batch] for batch in sorted(found))

    def _own_results(self) -> tuple[BatchResult, ...]:
        rest = self.book.rest()
        found = (*self.book.done(), *(() if rest is None else (rest,)))
        return tuple(
            BatchResult(
                index=self.spec.first + roots.index,
                rows=roots.rows,
                input_root=roots.input_root,
                side_root=roots.side_root,
                output_root=roots.output_root,
            )
            for roots in found
            if self.spec.first + roots.index in self.feeds
        )

    def receipt(self, *, chain_id: bytes, worker: bytes, height: int) -> WorkReceipt:
        """What was done and fed, not signed yet."""
        return receipt_of(self, self.results(), chain_id=chain_id, worker=worker, height=height)
