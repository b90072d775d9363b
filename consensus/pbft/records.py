"""What the consensus log holds, and what a replica remembers from it after a restart.

| before | record |
|---|---|
| own first vote for a block | `Held`: the whole block |
| own PROPOSE, PREPARE | `Voted` |
| own COMMIT | `Locked`: prepared certificate |
| own VIEW_CHANGE | `Left` |
| anything in a later view | `Entered`: the NEW_VIEW |
| using a certificate of a block that is not here | `LowMark` |

Knows: bytes. Must not know: segments, checksums, files (storage/wal).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from prsm.protocol.certificates import Certificate
from prsm.protocol.codec import Record, decode, encode
from prsm.protocol.errors import WireError
from prsm.protocol.headers import Block, block_hash
from prsm.protocol.ids import U32, Bytes32, UInt
from prsm.protocol.limits import CTL_FRAME_BYTES_MAX
from prsm.protocol.messages.consensus import SignedMessage
from prsm.protocol.signing import Kind


class LowMark(Record, frozen=True):
    """Nothing is proposed, prepared or committed at this height or below it, ever again.

    The commit certificate is kept until the block is here: whoever saw it may be the only one,
    and may not vote at that height any more.
    """

    height: UInt
    certificate: Certificate | None  # None: the block is in the ledger


class Voted(Record, frozen=True):
    """PROPOSE or PREPARE of this hash is about to be sent; a COMMIT, that it was in a view past."""

    kind: Kind
    epoch: U32
    height: UInt
    view: U32
    block_hash: Bytes32


class Held(Record, frozen=True):
    """A vote for this block is about to be sent, the first one.

    Whoever can show that it was prepared may be a liar who shows it to nobody, and all who
    prepared it may lose their power at once: a view that must carry it on could never begin.
    """

    height: UInt
    block: Block


class Locked(Record, frozen=True):
    """COMMIT is about to be sent: what a later view must carry on."""

    epoch: U32
    height: UInt
    view: U32
    certificate: Certificate  # of PREPARE votes
    block: Block | None  # None: a `Held` before has it; logs of earlier programs have none of those


class Left(Record, frozen=True):
    """VIEW_CHANGE for this view is about to be sent: no vote in a lower view of the height."""

    epoch: U32
    height: UInt
    view: U32


class Entered(Record, frozen=True):
    """A NEW_VIEW was accepted."""

    new_view: SignedMessage


LogRecord = LowMark | Voted | Locked | Left | Entered | Held
_TYPES: Final[tuple[type[LogRecord], ...]] = (LowMark, Voted, Locked, Left, Entered, Held)
# Of one view, as an honest validator says them.
ORDER: Final = (Kind.VIEW_CHANGE, Kind.NEW_VIEW, Kind.PROPOSE, Kind.PREPARE, Kind.COMMIT)
# As the guard's file has them: NEW_VIEW is no vote.
_STEPS: Final = {Kind.VIEW_CHANGE: 0, Kind.PROPOSE: 1, Kind.PREPARE: 2, Kind.COMMIT: 3}
assert [kind for kind in ORDER if kind in _STEPS] == sorted(_STEPS, key=lambda kind: _STEPS[kind])


@dataclass(frozen=True, slots=True)
class Mark:
    """What the sign guard notes of a vote; (epoch, height, view, step) only grows."""

    epoch: int
    height: int
    view: int
    step: int  # in the order votes follow within a view: it begins with VIEW_CHANGE
    block_hash: bytes  # zero bytes for VIEW_CHANGE

    @property
    def position(self) -> tuple[int, int, int, int]:
        """The part that only grows."""
        return self.epoch, self.height, self.view, self.step


@dataclass(slots=True)
class Memory:
    """What the log says of one height."""

    view: int = 0
    active: bool = True
    new_view: SignedMessage | None = None
    voted: dict[tuple[Kind, int], bytes] = field(default_factory=dict)
    locked: Locked | None = None
    bodies: dict[bytes, Block] = field(default_factory=dict)  # by hash, the latest last
    raws: list[bytes] = field(default_factory=list)  # to be kept while the ledger is below


def pack(record: LogRecord) -> bytes:
    """The bytes of a record: its number, then its canonical form."""
    return bytes((_TYPES.index(type(record)),)) + encode(record)


def unpack(raw: bytes) -> LogRecord:
    """Read a record.

    Raises:
        WireError: no record this version writes.
    """
    if not raw or raw[0] >= len(_TYPES):
        raise WireError(f"log record of unknown type {raw[:1].hex() or 'empty'}")
    return decode(raw[1:], _TYPES[raw[0]], size_max=2 * CTL_FRAME_BYTES_MAX)


def mark_of(raw: bytes) -> Mark | None:
    """What the sign guard must note of this record, None if it announces no vote."""
    match unpack(raw):
        case Voted() as voted:
            step = _STEPS[voted.kind]
            return Mark(voted.epoch, voted.height, voted.view, step, voted.block_hash)
        case Locked() as locked:
            block_hash = locked.certificate.block_hash
            return Mark(locked.epoch, locked.height, locked.view, _STEPS[Kind.COMMIT], block_hash)
        case Left() as left:
            return Mark(left.epoch, left.height, left.view, _STEPS[Kind.VIEW_CHANGE], bytes(32))
        case LowMark() | Entered() | Held():
            return None


def highest_mark(raws: Iterable[bytes]) -> Mark | None:
    """The last vote a log holds; a sign guard above it proves that the log lost one.

    Raises:
        WireError: a record this version cannot read.
    """
    marks = [mark for raw in raws if (mark := mark_of(raw)) is not None]
    return max(marks, key=lambda mark: mark.position, default=None)


def low_mark(raws: Iterable[bytes], head: int) -> int:
    """The low mark of a log segment: its head's, or a later one that its records hold.

    A segment that is begun while the ledger stands below the log, as after a ledger lost blocks,
    has the ledger's height in its head and the log's mark in a record. Reads up to the first
    record that this version cannot.
    """
    low = head
    for raw in raws:
        try:
            record = unpack(raw)
        except WireError:
            break
        if isinstance(record, LowMark):
            low = max(low, record.height)
    return low


@dataclass(slots=True)
class Replayed:
    """The low mark, the certificate behind it if its block is not here, and what was said."""

    low: int
    dropped: int  # votes of this height and below may be dropped; of all others the log speaks
    proof: Certificate | None = None
    heights: dict[int, Memory] = field(default_factory=dict)


def replay(raws: Iterable[bytes], *, committed: int) -> Replayed:
    """Rebuild the low mark and what was said at each height above the ledger's.

    A vote at height h is also a proof that h - 1 was committed here, even if the ledger that
    is found now stands below it.

    Args:
        raws: the records of the log in the order they were written.
        committed: height of the ledger.

    Raises:
        WireError: a record this version cannot read, or a lock without its block; the caller
            starts as observer.
    """
    found = Replayed(committed, committed)
    for raw in raws:
        record = unpack(raw)
        if isinstance(record, LowMark):
            _raise_low(found, record.height, record.certificate)
            continue
        height = record.new_view.height if isinstance(record, Entered) else record.height
        _raise_low(found, height - 1, None)
        if height > committed:
            memory = found.heights.setdefault(height, Memory())
            memory.raws.append(raw)
            _remember(memory, record)
    for height, memory in found.heights.items():
        locked = memory.locked
        if locked is not None and locked.certificate.block_hash not in memory.bodies:
            raise WireError(f"log without the block that was prepared at height {height}")
    return found


def _raise_low(found: Replayed, height: int, certificate: Certificate | None) -> None:
    if certificate is None:
        found.dropped = max(found.dropped, height)
    if height > found.low:
        found.low, found.proof = height, certificate


def _remember(memory: Memory, record: Voted | Locked | Left | Entered | Held) -> None:
    match record:
        case Held(block=block):
            name = block_hash(block.header)
            memory.bodies.pop(name, None)  # dropped, and voted for once more
            memory.bodies[name] = block
        case Voted(kind=kind, view=view, block_hash=digest):
            memory.voted[kind, view] = digest
        case Locked(view=view, certificate=certificate):
            memory.voted[Kind.COMMIT, view] = certificate.block_hash
            if record.block is not None:
                memory.bodies[certificate.block_hash] = record.block
            if memory.locked is None or view >= memory.locked.view:
                memory.locked = record
        case Left(view=view):
            if view > memory.view:
                memory.view, memory.active, memory.new_view = view, False, None
        case Entered(new_view=new_view):
            if new_view.view >= memory.view:
                memory.view, memory.active, memory.new_view = new_view.view, True, new_view
