"""The `Disk` port in memory, with every change on a tape; it can also refuse the n-th of them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePath
from random import Random

from prsm.storage.disk import DiskFile
from prsm.storage.errors import Conflict, Full, NotFound, StoreUnavailable
from tests.tools.power.tape import Cut, Names, State, Sync, SyncFolder, Tape, Write

Refusal = Callable[[str], type[Full | StoreUnavailable] | None]


@dataclass
class _Node:
    number: int
    content: bytearray = field(default_factory=bytearray)
    holder: "RecordedFile | None" = None


class RecordedDisk:
    """Files of one folder; paths are told apart by their last part."""

    def __init__(
        self, tape: Tape, dice: Random, found: State | None = None, *, refuse: Refusal | None = None
    ) -> None:
        """Begin with what a power cut left, or empty."""
        self.tape = tape
        self._dice = dice
        self.refuse = refuse or (lambda _call: None)
        self._names = {
            name: _Node(number, bytearray(content))
            for name, (number, content) in (found or {}).items()
        }

    def open(self, path: str) -> DiskFile:
        """Open an existing file."""
        name = PurePath(path).name
        if name not in self._names:
            raise NotFound(f"{path} does not exist")
        return RecordedFile(self, self._names[name])

    def create(self, path: str) -> DiskFile:
        """Make an empty file."""
        name = PurePath(path).name
        if name in self._names:
            raise Conflict(f"{path} exists already")
        self.check("create")
        self._names[name] = node = _Node(self.tape.make_file())
        self.tape.add(Names(((name, node.number),)))
        return RecordedFile(self, node)

    def exists(self, path: str) -> bool:
        """Say whether a file of that name is there."""
        return PurePath(path).name in self._names

    def rename(self, old: str, new: str) -> None:
        """Give a file another name, in one step."""
        before, after = PurePath(old).name, PurePath(new).name
        self.check("rename")
        self._names[after] = node = self._names.pop(before)
        self.tape.add(Names(((after, node.number), (before, None))))

    def remove(self, path: str) -> None:
        """Remove a name."""
        name = PurePath(path).name
        if name in self._names:
            self.check("remove")
            del self._names[name]
            self.tape.add(Names(((name, None),)))

    def sync_folder(self, path: str) -> None:
        """Make all names durable."""
        del path  # there is one folder
        self.check("sync folder")
        self.tape.add(SyncFolder())

    def nonce(self) -> int:
        """Return 64 bits of the seed's dice."""
        return self._dice.getrandbits(64)

    def check(self, call: str) -> None:
        """Raise what this call is to fail with."""
        error = self.refuse(call)
        if error is not None:
            raise error(f"{call} refused")


class RecordedFile:
    """An open file of a `RecordedDisk`."""

    def __init__(self, disk: RecordedDisk, node: _Node) -> None:
        self._disk = disk
        self._node = node

    @property
    def inode(self) -> int:
        """Number of the file itself."""
        return self._node.number

    def size(self) -> int:
        """Bytes in the file."""
        return len(self._node.content)

    def read(self, offset: int, count: int) -> bytes:
        """Return up to `count` bytes from `offset`."""
        return bytes(self._node.content[offset : offset + count])

    def pwrite(self, offset: int, data: bytes) -> None:
        """Write `data` at `offset`; of a refused write a part may be there."""
        try:
            self._disk.check("write")
        except (Full, StoreUnavailable):
            self._put(offset, data[: len(data) // 2])
            raise
        self._put(offset, data)

    def _put(self, offset: int, data: bytes) -> None:
        content = self._node.content
        if len(content) < offset:
            content.extend(bytes(offset - len(content)))
        content[offset : offset + len(data)] = data
        self._disk.tape.add(Write(self._node.number, offset, bytes(data)))

    def truncate(self, size: int) -> None:
        """Cut the file."""
        self._disk.check("truncate")
        del self._node.content[size:]
        self._disk.tape.add(Cut(self._node.number, size))

    def fdatasync(self) -> None:
        """Make the file durable."""
        self._disk.check("sync")
        self._disk.tape.add(Sync(self._node.number, folder=False))

    def lock_nowait(self) -> bool:
        """Take the file."""
        if self._node.holder not in {None, self}:
            return False
        self._node.holder = self
        return True

    def close(self) -> None:
        """Give file and lock back."""
        if self._node.holder is self:
            self._node.holder = None
