"""A disk in memory that fills up, refuses, loses or tears what was not synced, and flips bits.

Knows: the `Disk` port, what POSIX leaves open at a power cut, a seed. Must not know: who uses it.

Model of a power cut: of each file the synced bytes stay; every later write is lost, kept, torn
at 512 bytes, or has only made the file longer; every later cut of the file is lost or kept. Of
the folder the synced names stay and a prefix of the later changes (a journalled file system
keeps their order). A killed process loses nothing: the page cache survives it.
"""

from dataclasses import dataclass, field
from random import Random
from typing import Final

from prsm.storage.disk import DiskFile
from prsm.storage.errors import Conflict, Full, NotFound, StoreUnavailable

_SECTOR: Final = 512


class PowerCut(Exception):
    """The machine stopped in the middle of an operation; call `power_cut` to come back."""


@dataclass(slots=True)
class _Node:
    """A file: what the process sees, what the platter holds, and what lies between."""

    number: int
    cached: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)  # None: cut to offset
    holder: "FaultyFile | None" = None


class FaultyDisk:
    """A file system of one simulated machine.

    Attributes:
        operations: how many operations that change something were begun.
        fail_at: number of an operation -> the error it ends with (a write leaves a prefix).
        cut_at: number of the operation in which the power goes, or None.
        is_lying: syncs of files return and do nothing.
    """

    def __init__(self, seed: int) -> None:
        """Make an empty disk; the seed decides every loss."""
        self.operations = 0
        self.fail_at: dict[int, type[Full | StoreUnavailable]] = {}
        self.cut_at: int | None = None
        self.is_lying = False
        self._dice = Random(seed)
        self._nodes_made = 0
        self._life = 0
        self._names: dict[str, _Node] = {}
        self._durable_names: dict[str, _Node] = {}
        self._pending_names: list[tuple[str, _Node | None]] = []  # None: the name goes

    @property
    def life(self) -> int:
        """How often the process ended: files opened in an earlier life are closed."""
        return self._life

    def open(self, path: str) -> DiskFile:
        """Open an existing file."""
        if path not in self._names:
            raise NotFound(f"{path} does not exist")
        return FaultyFile(self, self._names[path])

    def create(self, path: str) -> DiskFile:
        """Make an empty file."""
        if path in self._names:
            raise Conflict(f"{path} exists already")
        self.begin(path)
        node = self._make_node()
        self._change((path, node))
        return FaultyFile(self, node)

    def exists(self, path: str) -> bool:
        """Say whether a file of that name is there."""
        return path in self._names

    def rename(self, old: str, new: str) -> None:
        """Give a file another name, in one step."""
        if old not in self._names:
            raise NotFound(f"{old} does not exist")
        self.begin(old)
        self._change((new, self._names[old]), (old, None))

    def remove(self, path: str) -> None:
        """Remove a name."""
        if path in self._names:
            self.begin(path)
            self._change((path, None))

    def sync_folder(self, path: str) -> None:
        """Make all names durable: this disk has one folder."""
        self.begin(path)
        self._durable_names = dict(self._names)
        self._pending_names.clear()

    def nonce(self) -> int:
        """Return 64 bits of the seed's dice."""
        return self._dice.getrandbits(64)

    def kill(self) -> None:
        """End the process: open files and their locks are gone, the page cache stays."""
        self._life += 1
        for node in self._names.values():
            node.holder = None

    def power_cut(self) -> None:
        """Stop the machine and start it again."""
        self.kill()
        self.cut_at = None
        kept = self._dice.randint(0, len(self._pending_names))
        # A rename is two entries and one journal record: never half of it.
        while 0 < kept < len(self._pending_names) and self._pending_names[kept][1] is None:
            kept += 1
        names = dict(self._durable_names)
        for name, node in self._pending_names[:kept]:
            _apply_name(names, name, node)
        self._names, self._durable_names = names, dict(names)
        self._pending_names.clear()
        for node in {id(node): node for node in names.values()}.values():
            self._settle(node)

    def flip(self, path: str, bit: int) -> None:
        """Flip one bit of a file, on the platter and in the cache."""
        node = self._names[path]
        for copy in (node.cached, node.durable):
            if bit // 8 < len(copy):
                copy[bit // 8] ^= 1 << bit % 8

    def copy(self, old: str, new: str) -> None:
        """Copy a file as `cp` or a backup does: same bytes, another inode; durable."""
        node = self._make_node()
        node.cached = bytearray(self._names[old].cached)
        node.durable = bytearray(node.cached)
        self._names[new] = self._durable_names[new] = node

    def put_back(self, path: str, content: bytes) -> None:
        """Put an old copy of a file in its place: another inode; durable."""
        node = self._make_node()
        node.cached, node.durable = bytearray(content), bytearray(content)
        self._names[path] = self._durable_names[path] = node

    def contents(self, path: str) -> bytes:
        """Return what a reader sees in a file now."""
        return bytes(self._names[path].cached)

    def begin(
        self, what: str, node: _Node | None = None, write: tuple[int, bytes] = (0, b"")
    ) -> None:
        """Count an operation and let its fault happen; part of a write may stay."""
        self.operations += 1
        error = self.fail_at.get(self.operations)
        cut = self.operations == self.cut_at
        if error is None and not cut:
            return
        if node is not None and write[1]:
            part = self._dice.randint(0, len(write[1]))
            put(node, write[0], write[1][:part])
        if cut:
            raise PowerCut(f"power cut in operation {self.operations} on {what}")
        assert error is not None
        raise error(f"{what}: operation {self.operations} refused")

    def _make_node(self) -> _Node:
        self._nodes_made += 1
        return _Node(self._nodes_made)

    def _change(self, *changes: tuple[str, _Node | None]) -> None:
        for name, node in changes:
            _apply_name(self._names, name, node)
            self._pending_names.append((name, node))

    def _settle(self, node: _Node) -> None:
        """Decide what the platter holds after a power cut."""
        for offset, data in node.pending:
            fate = self._dice.choice(("lost", "kept", "torn", "longer"))
            if data is None:
                if fate in {"kept", "torn"}:
                    del node.durable[offset:]
            elif fate == "kept":
                _write(node.durable, offset, data)
            elif fate == "torn":
                self._tear(node.durable, offset, data)
            elif fate == "longer":
                _write(node.durable, offset + len(data), b"")
        node.pending.clear()
        node.cached = bytearray(node.durable)

    def _tear(self, target: bytearray, offset: int, data: bytes) -> None:
        start = 0
        while start < len(data):
            step = _SECTOR - (offset + start) % _SECTOR
            if self._dice.getrandbits(1):
                _write(target, offset + start, data[start : start + step])
            start += step


class FaultyFile:
    """An open file of a `FaultyDisk`."""

    def __init__(self, disk: FaultyDisk, node: _Node) -> None:
        """Open a file for the present life of the process."""
        self._disk = disk
        self._node = node
        self._life = disk.life
        self._closed = False

    @property
    def inode(self) -> int:
        """Number of the file itself."""
        return self._node.number

    def size(self) -> int:
        """Bytes in the file."""
        return len(self._alive().cached)

    def read(self, offset: int, count: int) -> bytes:
        """Return up to `count` bytes from `offset`."""
        return bytes(self._alive().cached[offset : offset + count])

    def pwrite(self, offset: int, data: bytes) -> None:
        """Write `data` at `offset`, into the cache."""
        node = self._alive()
        self._disk.begin(f"file {node.number}", node, (offset, data))
        put(node, offset, data)

    def truncate(self, size: int) -> None:
        """Cut the file, in the cache."""
        node = self._alive()
        self._disk.begin(f"file {node.number}")
        del node.cached[size:]
        node.pending.append((size, None))

    def fdatasync(self) -> None:
        """Make the file durable."""
        node = self._alive()
        self._disk.begin(f"file {node.number}")
        if self._disk.is_lying:
            return
        for offset, data in node.pending:
            if data is None:
                del node.durable[offset:]
            else:
                _write(node.durable, offset, data)
        node.pending.clear()

    def lock_nowait(self) -> bool:
        """Take the file."""
        node = self._alive()
        if node.holder not in {None, self}:
            return False
        node.holder = self
        return True

    def close(self) -> None:
        """Give file and lock back."""
        self._closed = True
        if self._node.holder is self:
            self._node.holder = None

    def _alive(self) -> _Node:
        if self._closed or self._life != self._disk.life:
            raise StoreUnavailable(f"file {self._node.number} is closed")
        return self._node


def put(node: _Node, offset: int, data: bytes) -> None:
    """Write into the cache of a file, to be settled later."""
    _write(node.cached, offset, data)
    node.pending.append((offset, bytes(data)))


def _write(target: bytearray, offset: int, data: bytes) -> None:
    if len(target) < offset:
        target.extend(bytes(offset - len(target)))
    target[offset : offset + len(data)] = data


def _apply_name(names: dict[str, _Node], name: str, node: _Node | None) -> None:
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node
