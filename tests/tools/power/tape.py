"""What a disk was told to do, in order, and every state a power cut may leave of it.

One tape holds the operations of all files of one node beside notes of what left it. The model is
that of `testnet/sim/disk`: of each file the synced bytes stay; each later write is lost, kept, torn
at 512 bytes or only makes the file longer; each later cut of the file is lost or kept; of the
folder the synced names stay and a prefix of the later changes. A sync may lie: then it did nothing.
"""

from dataclasses import dataclass, field
from random import Random
from typing import Final

import msgspec

_SECTOR: Final = 512


class Write(msgspec.Struct, frozen=True, tag=True):
    """Bytes at an offset of a file."""

    file: int
    offset: int
    data: bytes


class Cut(msgspec.Struct, frozen=True, tag=True):
    """A file gets another size."""

    file: int
    size: int


class Sync(msgspec.Struct, frozen=True, tag=True):
    """fsync of a file; of the folder too where SQLite's VFS does that in the same call."""

    file: int
    folder: bool


class Names(msgspec.Struct, frozen=True, tag=True):
    """Names of the folder that change in one step; no file: the name goes."""

    changes: tuple[tuple[str, int | None], ...]


class SyncFolder(msgspec.Struct, frozen=True, tag=True):
    """fsync of the folder."""


class Begin(msgspec.Struct, frozen=True, tag=True):
    """The machine starts: the disk is what a power cut left (name, number, content)."""

    files: tuple[tuple[str, int, bytes], ...]


class Note(msgspec.Struct, frozen=True, tag=True):
    """Something left the node: its place among the operations is the time it did.

    `what` is "sent" (a canonical SignedMessage), "acked" (u64 height and 32-byte transaction ids)
    or "heard" (a digit, the peer's number, and its canonical STATUS after it heard us).
    """

    what: str
    raw: bytes


Operation = Write | Cut | Sync | Names | SyncFolder | Begin | Note


@dataclass(slots=True)
class Tape:
    """The operations so far, and numbers for files."""

    operations: list[Operation] = field(default_factory=list)
    files: int = 0

    def add(self, operation: Operation) -> None:
        """Record one operation."""
        self.operations.append(operation)

    def make_file(self) -> int:
        """A number for a new file, its inode."""
        self.files += 1
        return self.files

    def note(self, what: str, raw: bytes) -> None:
        """Record that something left."""
        self.operations.append(Note(what, raw))

    def save(self) -> bytes:
        """The tape as bytes, for a failing crash point to be looked at again."""
        return msgspec.msgpack.encode(self.operations)

    @classmethod
    def load(cls, raw: bytes) -> "Tape":
        """Read what `save` wrote."""
        return cls(msgspec.msgpack.decode(raw, type=list[Operation]))


@dataclass(slots=True)
class _File:
    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)  # None: cut to offset


State = dict[str, tuple[int, bytes]]  # name -> number of the file, content


class Platter:
    """A disk that plays a tape and can be asked at any place what a power cut leaves."""

    def __init__(self) -> None:
        self._files: dict[int, _File] = {}
        self._names: dict[str, int] = {}
        self._pending: list[tuple[tuple[str, int | None], ...]] = []

    def play(self, operation: Operation, *, lie: bool = False) -> None:
        """Take one operation; a sync that lies does nothing."""
        match operation:
            case Write(file=file, offset=offset, data=data):
                self._file(file).pending.append((offset, data))
            case Cut(file=file, size=size):
                self._file(file).pending.append((size, None))
            case Names(changes=changes):
                self._pending.append(changes)
            case Sync(file=file, folder=folder) if not lie:
                found = self._file(file)
                for offset, part in found.pending:
                    _keep(found.durable, offset, part)
                found.pending.clear()
                if folder:
                    self._sync_names()
            case SyncFolder() if not lie:
                self._sync_names()
            case Begin(files=files):
                self._names = {name: number for name, number, _ in files}
                self._files = {number: _File(bytearray(raw)) for _, number, raw in files}
                self._pending.clear()
            case _:
                pass

    def settle(self, dice: Random) -> State:
        """One of the states that a power cut now may leave; the platter plays on unharmed."""
        names = dict(self._names)
        for changes in self._pending[: dice.randint(0, len(self._pending))]:
            _rename(names, changes)
        return {
            name: (number, bytes(_settle(self._file(number), dice)))
            for name, number in sorted(names.items())
        }

    def whole(self) -> State:
        """What a process sees: everything, as after a kill."""
        names = dict(self._names)
        for changes in self._pending:
            _rename(names, changes)
        found: State = {}
        for name, number in sorted(names.items()):
            content = bytearray(self._file(number).durable)
            for offset, part in self._file(number).pending:
                _keep(content, offset, part)
            found[name] = number, bytes(content)
        return found

    def _file(self, number: int) -> _File:
        return self._files.setdefault(number, _File())

    def _sync_names(self) -> None:
        for changes in self._pending:
            _rename(self._names, changes)
            for _, number in changes:
                if number is not None:
                    self._file(number)
        self._pending.clear()


def _rename(names: dict[str, int], changes: tuple[tuple[str, int | None], ...]) -> None:
    for name, number in changes:
        if number is None:
            names.pop(name, None)
        else:
            names[name] = number


def _keep(target: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del target[offset:]
        return
    if len(target) < offset:
        target.extend(bytes(offset - len(target)))
    target[offset : offset + len(data)] = data


def _settle(file: _File, dice: Random) -> bytearray:
    content = bytearray(file.durable)
    # Whole runs are kept or lost together often, as a cache that was nearly written out leaves it.
    keep_all, lose_all = dice.random() < 0.15, dice.random() < 0.15
    for offset, data in file.pending:
        fate = dice.choice(("lost", "kept", "torn", "longer"))
        if keep_all or lose_all:
            fate = "kept" if keep_all else "lost"
        if data is None:
            if fate in {"kept", "torn"}:
                del content[offset:]
        elif fate == "kept":
            _keep(content, offset, data)
        elif fate == "torn":
            _tear(content, offset, data, dice)
        elif fate == "longer":
            _keep(content, offset + len(data), b"")
    return content


def _tear(target: bytearray, offset: int, data: bytes, dice: Random) -> None:
    start = 0
    while start < len(data):
        step = _SECTOR - (offset + start) % _SECTOR
        if dice.getrandbits(1):
            _keep(target, offset + start, data[start : start + step])
        start += step
