"""CARs out of the store and into it: files by their roots, and flat directories of such files.

Knows: the model store, where a CAR is put together. Must not know: who asked, JSON-RPC.
Reading and writing run in one thread at a time and hold a few blocks; nothing is stored before
all of a CAR held. Source: docs/spec/storage.md, "CAR".

A file of the node's own profile keeps its root. Of another one the bytes are taken and stored by
the node's profile, under the root that gives; both roots are told. What was taken is pinned under
`car:ROOT` until `remove`, so a file that two CARs brought stays for the second.
"""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import trio
from typing_extensions import TypeVarTuple, Unpack

from prsm.protocol.errors import Unsupported
from prsm.storage.cid import Cid, Codec
from prsm.storage.dag.assembly import DIRECTORY_DEPTH_MAX, ENTRIES_TOTAL_MAX, Data
from prsm.storage.dag.car import CarWriter
from prsm.storage.dag.dagpb import Sort, decode_directory, sort_of, version_of
from prsm.storage.dag.packing import Unpacked, assemble, export_file
from prsm.storage.dag.unixfs import UNIXFS_V1_2025, Dag, DagReader
from prsm.storage.errors import Conflict, NotFound
from prsm.storage.store.intake import Progress
from prsm.storage.store.model_store import ModelStore
from prsm.storage.store.space import Reservation, Space
from prsm.storage.store.staging import Stage, Staging
from prsm.storage.wholefile import refused

_T = TypeVar("_T")
_Args = TypeVarTuple("_Args")
_PREFIX: Final = "car:"  # of the pins of what came in a CAR, before its root


@dataclass(frozen=True, slots=True)
class Exported:
    """A CAR that was written."""

    root: Cid
    size: int
    blocks: int


@dataclass(frozen=True, slots=True)
class ImportedFile:
    """A file of a CAR: its root there, and the one it has in the store."""

    path: str
    cid: Cid
    root: Cid
    size: int
    profile: str


@dataclass(frozen=True, slots=True)
class Imported:
    """A CAR that was taken in."""

    root: Cid
    blocks: int
    files: tuple[ImportedFile, ...]


@dataclass(frozen=True, slots=True)
class Removed:
    """A CAR that was given up: files that went, their bytes, and those something else keeps."""

    files: int
    freed_bytes: int
    kept: int


@dataclass(frozen=True, slots=True)
class _Part:
    """A block, or a file whose leaves are read at their places."""

    cid: Cid
    block: bytes = b""
    path: Path | None = None
    size: int = 0
    nodes: tuple[tuple[bytes, bytes], ...] = ()


class CarDesk:
    """Writes and takes CARs for one store."""

    def __init__(self, store: ModelStore, scratch: Path) -> None:
        """Stand beside a store.

        Args:
            store: the model store.
            scratch: a folder on the store's own file system; `Staging` takes back what a crash cut.
        """
        self._store = store
        self._staging = Staging(store, scratch)
        self._limiter = trio.CapacityLimiter(1)
        self._changing: set[Cid] = set()  # roots of CARs

    async def export(self, root: Cid, path: Path) -> Exported:
        """Write a file, or a directory whose files are all here, as a CAR.

        Args:
            root: of what is wanted.
            path: a new name; it appears when the CAR is whole.

        Raises:
            Conflict: `path` is there.
            NotFound: a file is not here, or not whole.
            Corrupt: a file is not what it was.
            Full, StoreUnavailable: the disk refused.
        """
        if await trio.Path(path).exists():
            raise Conflict(f"{path} is there", hint="name a new file")
        async with AsyncExitStack() as leases:
            parts: list[_Part] = []
            await self._collect(root, parts, leases, depth=0)
            return await self._hop(_write, root, parts, path)

    async def take(self, path: Path, *, on_progress: Progress | None = None) -> Imported:
        """Put a CAR together, then take its files into the store and pin them, all or none.

        Args:
            path: of the CAR.
            on_progress: called in a worker thread with the bytes of files put together so far.

        Raises:
            NotFound: no such file.
            BadCar, BadDag: it does not hold.
            Unsupported: several roots, CARv2, a HAMT, a link, an unknown profile.
            Full: the quota or the disk has no room, with the figures.
            Conflict: a CAR of that root is being removed.
        """
        space = await self._store.space()
        room = max(0, space.quota_bytes - space.pinned_bytes - space.reserved_bytes)
        async with self._staging.begin() as stage, AsyncExitStack() as reserved:
            shelf = _Corner(stage.folder, on_progress, self._store.budget, reserved)
            found = await self._hop(_assemble, path, shelf, room)
            files = await self._keep(found, shelf, stage)
        return Imported(found.root, found.blocks, tuple(files))

    async def remove(self, root: Cid) -> Removed:
        """Give a CAR up that was taken; files that a model, a pin or another CAR keeps stay.

        Args:
            root: of the CAR, as `take` told it.

        Raises:
            NotFound: no CAR of that root was taken.
            Conflict: it is being taken in again, or removed.
        """
        with self._alone(root):
            return await self._remove(root)

    async def _remove(self, root: Cid) -> Removed:
        name = _PREFIX + str(root)
        pinned = await self._pinned(name)
        directories = await self._store.blocks.owned(name)
        if not pinned and not directories:
            raise NotFound(f"no CAR of {root} was imported", hint="see: prsm storage pins")
        if directories:
            await self._store.blocks.delete_many(directories, owner=name)
        named = {file.root for _, found in await self._store.models() for file in found.files}
        sizes = {one.root: one.size for one in await self._store.list()}
        gone: list[Cid] = []
        for file in pinned:
            await self._store.unpin(file, name)
            with suppress(Conflict, NotFound):  # in use, or kept under another name
                if file.raw not in named:
                    await self._store.remove(file)
                    gone.append(file)
        freed = sum(sizes.get(file, 0) for file in gone)
        return Removed(len(gone), freed, len(pinned) - len(gone))

    async def _keep(self, found: Unpacked, shelf: "_Corner", stage: Stage) -> list[ImportedFile]:
        name = _PREFIX + str(found.root)
        files: list[ImportedFile] = []
        await stage.wait_turn()
        with self._alone(found.root):
            for one in found.files:
                shelf.release(one.path)  # the store sets the same bytes aside, where they lie
                root = (await stage.add_file(shelf.place(one.path), move=True)).root
                files.append(ImportedFile(one.path, one.root, root, one.size, one.profile.name))
                await stage.pin(root, name, "operator")
            # Directories last: who finds their root finds all that is below it.
            await stage.put_blocks(found.directories, name)
        return files

    @contextmanager
    def _alone(self, root: Cid) -> Iterator[None]:
        """Store or remove what a CAR brought, nobody else the same: each finds what is there."""
        if root in self._changing:
            raise Conflict(f"{root} is being imported or removed", hint="wait until that is done")
        self._changing.add(root)
        try:
            yield
        finally:
            self._changing.discard(root)

    async def _pinned(self, name: str) -> set[Cid]:
        return {pin.root for pin in await self._store.pins() if pin.name == name}

    async def _collect(
        self, root: Cid, parts: list[_Part], leases: AsyncExitStack, *, depth: int
    ) -> None:
        """Lease every file below a root and list what is to be written, parents first."""
        if len(parts) > ENTRIES_TOTAL_MAX or depth > DIRECTORY_DEPTH_MAX:
            raise Unsupported(f"{root}: more than {ENTRIES_TOTAL_MAX} entries, or too deep")
        if await self._store.has(root):
            lease = self._store.lease(root, holder="car", purpose="export")
            path = await leases.enter_async_context(lease)
            parts.append(await self._file(root, path))
            return
        block = await self._store.blocks.get(root.digest)
        if root.codec is Codec.DAG_PB and sort_of(block) is not Sort.DIRECTORY:
            raise NotFound(f"{root} is part of a file, not one that is here")
        parts.append(_Part(root, block))
        if root.codec is Codec.DAG_PB:
            for link in decode_directory(block, version=version_of(block)).values():
                await self._collect(link.cid, parts, leases, depth=depth + 1)

    async def _file(self, root: Cid, path: Path) -> _Part:
        reader = DagReader(root, (await self._store.have(root)).size)
        nodes = []
        while wanted := reader.wanted():
            raw = await self._store.blocks.get(wanted[0])
            nodes.append((reader.accept(raw), raw))
        return _Part(root, path=path, size=reader.shape.size, nodes=tuple(nodes))

    async def _hop(self, run: Callable[[Unpack[_Args]], _T], *args: *_Args) -> _T:
        return await trio.to_thread.run_sync(run, *args, limiter=self._limiter)


class _Corner:
    """Files of a CAR by number: names of strangers make no paths here.

    Each one's room is set aside, of the quota and on the disk, before a byte of it is written: a
    megabyte of CAR may claim any number of files.
    """

    def __init__(
        self, folder: Path, told: Progress | None, budget: Space, reserved: AsyncExitStack
    ) -> None:
        self._folder = folder
        self._told = told
        self._budget, self._stack = budget, reserved
        self._bytes = 0
        self._numbers: dict[str, int] = {}
        self._reserved: dict[str, Reservation] = {}

    def place(self, path: str) -> Path:
        """Return where a file of the CAR is."""
        return self._folder / str(self._numbers[path])

    def release(self, path: str) -> None:
        """Give back what was set aside for a file."""
        self._reserved.pop(path).release()

    def make_file(self, path: str, size: int) -> None:
        trio.from_thread.run(self._reserve, path, size)
        self._numbers[path] = len(self._numbers)
        with self._writing(), self.place(path).open("xb") as file:
            if size:
                os.posix_fallocate(file.fileno(), 0, size)

    async def _reserve(self, path: str, size: int) -> None:
        self._reserved[path] = await self._stack.enter_async_context(self._budget.set_aside(size))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._budget.writing(), refused(self._folder):
            yield

    def make_folder(self, path: str) -> None:
        """Nothing: only its files are wanted."""

    def write(self, path: str, offset: int, data: Data) -> None:
        with self._writing(), self.place(path).open("r+b", buffering=0) as file:
            file.seek(offset)
            file.write(data)
        self._bytes += len(data)
        if self._told is not None:
            self._told(self._bytes)

    def read(self, path: str, offset: int, size: int) -> bytes:
        with refused(self._folder), self.place(path).open("rb") as file:
            file.seek(offset)
            return file.read(size)


def _assemble(path: Path, shelf: _Corner, room: int) -> Unpacked:
    with refused(path), path.open("rb") as source:
        return assemble(source, shelf, size_max=room)


def _write(root: Cid, parts: list[_Part], path: Path) -> Exported:
    with _fresh(path) as fresh, refused(path), fresh.open("xb") as out:
        writer = CarWriter(out, root)
        for part in parts:
            if part.path is None:
                writer.add(part.cid, part.block)
                continue
            with refused(part.path), part.path.open("rb") as file:
                dag = Dag(part.cid, part.size, 0, 0)
                export_file(writer, dag, file, dict(part.nodes), UNIXFS_V1_2025)
    return Exported(root, writer.bytes, writer.blocks)


@contextmanager
def _fresh(path: Path) -> Iterator[Path]:
    """Give a name beside `path` that becomes it when all went well."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        yield fresh
        with refused(path):
            fresh.rename(path)
    finally:
        fresh.unlink(missing_ok=True)
