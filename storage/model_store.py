"""The models of this node: files by CID, added, fetched, served, checked and kept within a budget.

Knows: folders, the index, leaves as byte ranges of the assembled file. Must not know: where a
fetched block comes from (`exchange` does). Source: docs/spec/storage.md, "Model store".

Order on disk, always: data synced -> index row -> name -> folder synced -> `sealed`. At start a
file without a row is removed, and a row without its file is `bad` and fetched again.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import trio

from prsm.protocol.errors import WireError
from prsm.protocol.messages.models import Have, ModelManifest
from prsm.storage import sealed
from prsm.storage.blockstore import BlockIndex, RootRow, State
from prsm.storage.cid import Cid, decode_cid
from prsm.storage.errors import Conflict, Corrupt, Full, NotFound
from prsm.storage.interfaces import Leaf
from prsm.storage.manifest import decode_manifest, encode_manifest
from prsm.storage.resume import Partial
from prsm.storage.sealed import FROM_FRESH, FROM_PARTIAL, AddedFile
from prsm.storage.unixfs import DagReader, Shape

_T = TypeVar("_T")
_THREADS: Final = 4  # of this store alone: a hung disk must not eat trio's own pool
_LEAF_LISTS: Final = 16  # leaf lists kept in memory; 32 KiB for each GiB of file


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One line of `ModelStore.list`."""

    root: Cid
    size: int
    state: State
    verified_bytes: int
    pins: tuple[str, ...]


class ModelStore:
    """The content store of one node."""

    def __init__(self, folder: Path, index: BlockIndex, *, quota: int) -> None:
        """Wrap an open index; `open` is the way in."""
        self._folders = sealed.Folders(folder)
        self._index = index
        self._quota = quota
        self._reserved = 0
        self._limiter = trio.CapacityLimiter(_THREADS)
        self._sealing = trio.Lock()
        self._reserving = trio.Lock()
        self._partials: dict[Cid, Partial] = {}
        self._leaf_lists: dict[Cid, tuple[Leaf, ...]] = {}

    @classmethod
    async def open(cls, folder: Path, *, quota: int) -> "ModelStore":
        """Open or make the store in a folder, and put right what a crash left behind.

        Args:
            folder: of this store alone.
            quota: bytes that files and blocks may take together.

        Raises:
            Conflict: another process uses it.
            StoreUnavailable: written by a newer version, or the disk refused.
            Corrupt: the index is damaged.
        """
        folders = sealed.Folders(folder)
        await trio.to_thread.run_sync(folders.make)
        store = cls(folder, await BlockIndex.open(folder / "index.db"), quota=quota)
        try:
            await store._recover()
        except BaseException:
            await store.close()  # noqa: ASYNC102 - close() shields itself
            raise
        return store

    async def close(self) -> None:
        """Note how far fetches have come, and close."""
        with trio.CancelScope(shield=True):
            for partial in list(self._partials.values()):
                await partial.close()
            self._partials.clear()
            await self._index.close()

    async def add_file(self, path: Path) -> AddedFile:
        """Copy a file in (a reflink where the file system can), hashing as it streams.

        Cancelled, it leaves nothing behind. A file that is here already is not stored twice.

        Raises:
            NotFound: no such file.
            LocalError: no regular file.
            Full: the quota or the disk has no room, with the figures.
        """
        size = await self._hop(lambda: sealed.regular_size(path))
        await self._reserve(size)
        try:
            fresh = await self._hop(lambda: sealed.take(path, self._folders.fresh(), size))
        finally:
            self._reserved -= size
        row = RootRow(fresh.added.root, fresh.added.size, State.SEALING, stamp=FROM_FRESH)
        with trio.CancelScope(shield=True):
            try:
                await self._seal(row, fresh.path, fresh.nodes)
            finally:
                await self._hop(lambda: fresh.path.unlink(missing_ok=True))  # noqa: ASYNC102 - shielded above
        return fresh.added

    async def has(self, root: Cid) -> bool:
        """Say whether a file is here, whole."""
        row = await self._index.get_root(root)
        return row is not None and row.state is State.SEALED

    async def have(self, root: Cid) -> Have:
        """Say which leaves of a file are here, whole or on its way.

        Raises:
            NotFound: nothing of it.
        """
        if (partial := self._partials.get(root)) is not None:
            return Have(partial.size, Shape.of(partial.size).leaves, partial.bitmap)
        row = await self._sealed_row(root)
        leaves = Shape.of(row.size).leaves
        return Have(row.size, leaves, sealed.full_bitmap(leaves))

    async def path(self, root: Cid) -> Path:
        """Return the read-only file of a root, for a worker to map.

        Raises:
            NotFound: it is not here, or not whole.
            Corrupt: somebody changed it; it is fetched again before it is served.
        """
        row, path = await self._sealed_row(root), self._folders.file(root)
        if await self._hop(lambda: sealed.stamp(path)) != row.stamp:
            await self.verify(root)
        return path

    async def read_leaves(self, root: Cid, first: int, count: int) -> Sequence[bytes]:
        """Return successive leaves of a file, whole or on its way, in one thread hop.

        Raises:
            NotFound: it is not here, or not those leaves.
            Corrupt: somebody changed the file.
        """
        if (partial := self._partials.get(root)) is not None:
            leaves = [partial.leaf(index) for index in range(first, first + count)]
            return await self._hop(lambda: [partial.read(leaf) for leaf in leaves])
        row = await self._sealed_row(root)
        listed = await self._leaves(row)
        if not 0 <= first < len(listed) or count < 1:
            raise NotFound(f"{root} has {len(listed)} leaves, not one at {first}")
        wanted, path = listed[first : first + count], self._folders.file(root)
        blocks = await self._hop(lambda: sealed.read(path, wanted, row.stamp))
        if blocks is None:
            await self.verify(root)
            blocks = await self._hop(lambda: sealed.read(path, wanted, sealed.stamp(path)))
        return blocks or ()

    async def get_block(self, digest: bytes) -> bytes:
        """Return an interior node or a manifest, checked against its digest.

        Raises:
            NotFound: it is not here.
            Corrupt: it has changed on disk.
        """
        return await self._index.get_block(digest)

    async def begin_fetch(self, root: Cid, size: int) -> Partial:
        """Start or go on with fetching a file; reserves its whole size.

        Raises:
            Conflict: it is being fetched, or is here already.
            Full: the quota or the disk has no room, with the figures.
            BadDag: a root of the wrong codec for that size.
        """
        if root in self._partials:
            raise Conflict(f"{root} is being fetched already")
        row = await self._index.get_root(root)
        if row is not None and row.state is State.SEALED:
            raise Conflict(f"{root} is here already")
        is_new = row is None or row.state is State.BAD or row.size != size
        if row is None or is_new:
            row = await self._begin_new(root, size)
        if root in self._partials:
            raise Conflict(f"{root} is being fetched already")
        partial = Partial(self._index, self._folders.partial(root), row, self._limiter)
        self._partials[root] = partial
        try:
            await partial.open()
        except BaseException:
            del self._partials[root]
            if is_new:
                await self._forget(root)  # noqa: ASYNC102 - shields itself
            raise
        return partial

    async def end_fetch(self, partial: Partial) -> None:
        """Close a fetch: seal the file if it is whole, else keep it for later.

        Raises:
            Full, StoreUnavailable: the disk refused.
        """
        with trio.CancelScope(shield=True):
            try:
                await partial.close()
                if not partial.wanted_nodes() and not partial.missing():
                    row = RootRow(partial.root, partial.size, State.SEALING, stamp=FROM_PARTIAL)
                    await self._seal(row, self._folders.partial(partial.root), ())
                    await self._hop(lambda: self._folders.remove_partial(partial.root))
            finally:
                self._partials.pop(partial.root, None)

    async def verify(self, root: Cid) -> None:
        """Hash every leaf of a file.

        Raises:
            NotFound: it is not here.
            Corrupt: a leaf has changed; the file is `bad` from now on.
        """
        row = await self._sealed_row(root)
        leaves, path = await self._leaves(row), self._folders.file(root)
        bad = await self._hop(lambda: sealed.first_bad(path, leaves))
        if bad is not None:
            await self._index.put_root(RootRow(root, row.size, State.BAD))
            raise Corrupt(
                f"{root}: leaf {bad} of {len(leaves)} has changed on disk",
                hint=f"fetch it again: prsm model pull {root}",
            )
        stamp = await self._hop(lambda: sealed.stamp(path))
        await self._index.put_root(RootRow(root, row.size, State.SEALED, stamp=stamp))

    async def remove(self, root: Cid) -> None:
        """Delete a file; who has it open keeps it until closed.

        Raises:
            NotFound: it is not here.
            Conflict: it is pinned, or being fetched.
        """
        if root in self._partials:
            raise Conflict(f"{root} is being fetched")
        await self._index.remove_root(root)
        self._leaf_lists.pop(root, None)
        await self._hop(lambda: self._folders.remove(root))

    async def list(self) -> Sequence[StoredFile]:
        """Return all files, oldest first."""
        pins = await self._index.pins()
        files = []
        for row in await self._index.roots():
            partial = self._partials.get(row.root)
            here = row.size if row.state is State.SEALED else 0
            if partial is not None:
                here = partial.verified_bytes
            files.append(StoredFile(row.root, row.size, row.state, here, pins.get(row.root, ())))
        return files

    async def pin(self, root: Cid, name: str) -> None:
        """Keep a root, here already or not, under a name; twice is once."""
        await self._index.pin(root, name)

    async def unpin(self, root: Cid, name: str) -> None:
        """Give a name up.

        Raises:
            NotFound: no such pin.
        """
        await self._index.unpin(root, name)

    async def used_bytes(self) -> int:
        """Return what files and blocks take, files on their way with their whole size."""
        # First what is set aside: a row written meanwhile may count twice, but never not at all.
        reserved = self._reserved
        return reserved + await self._index.used_bytes()

    async def save_manifest(self, manifest: ModelManifest) -> Cid:
        """Keep a manifest; its CID is what the ledger registers.

        Raises:
            LocalError: a path, an index or a size in it is wrong.
            Full: no room.
        """
        raw = encode_manifest(manifest)
        await self._reserve(len(raw))
        try:
            return await self._index.put_manifest(raw)
        finally:
            self._reserved -= len(raw)

    async def load_manifest(self, cid: Cid) -> ModelManifest:
        """Return a manifest.

        Raises:
            NotFound: it is not here.
            Corrupt: it has changed on disk.
            WireError: the block of that CID is no manifest.
        """
        return decode_manifest(await self._index.get_block(cid.digest))

    async def remove_manifest(self, cid: Cid) -> None:
        """Forget a manifest; its files stay.

        Raises:
            NotFound: it is not here.
        """
        await self._index.remove_manifest(cid)

    async def models(self) -> Sequence[tuple[Cid, ModelManifest]]:
        """Return the manifests here that this version reads, in order of their CIDs."""
        found = []
        for cid in await self._index.manifests():
            with suppress(WireError):  # of version 1: a home older than the first release
                found.append((cid, await self.load_manifest(cid)))
        return found

    async def has_model(self, manifest: ModelManifest) -> bool:
        """Say whether all files of a model are here, whole."""
        for file in manifest.files:
            if not await self.has(decode_cid(file.root)):
                return False
        return True

    async def _seal(self, row: RootRow, fresh: Path, nodes: Sequence[bytes]) -> None:
        async with self._sealing:
            if await self.has(row.root):
                return
            # Synced bytes, then the row, then the name: a crash in between is put right at start.
            await self._index.put_root(row, nodes)
            stamp = await self._hop(lambda: self._folders.seal(fresh, row.root))
            await self._index.put_root(RootRow(row.root, row.size, State.SEALED, stamp=stamp))

    async def _begin_new(self, root: Cid, size: int) -> RootRow:
        DagReader(root, size)
        await self._reserve(size)
        try:
            await self._hop(lambda: self._folders.remove(root))
            row = RootRow(root, size, State.PARTIAL)
            await self._index.put_root(row)
        finally:
            self._reserved -= size
        return row

    async def _forget(self, root: Cid) -> None:
        with trio.CancelScope(shield=True):
            await self._index.remove_root(root, even_pinned=True)
            await self._hop(lambda: self._folders.remove(root))

    async def _recover(self) -> None:
        known = set()
        for row in await self._index.roots():
            state = await self._hop(lambda row=row: self._folders.found(row))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            match state:
                case None:
                    await self._index.remove_root(row.root, even_pinned=True)
                    continue
                case State.SEALED if row.state is State.SEALING:
                    stamp = await self._hop(lambda row=row: self._folders.reseal(row.root))  # type: ignore[misc]  # likewise
                    await self._index.put_root(RootRow(row.root, row.size, state, stamp=stamp))
                case State.BAD if row.state is not State.BAD:
                    await self._index.put_root(RootRow(row.root, row.size, state))
                case _:
                    pass
            known.add(row.root)
        await self._hop(lambda: self._folders.sweep(known))

    async def _reserve(self, size: int) -> None:
        """Set bytes of the quota aside until their row is written."""
        async with self._reserving:
            used = await self.used_bytes()
            if used + size > self._quota:
                raise Full(
                    f"{size} bytes do not fit: {used} of {self._quota} bytes of the quota are used",
                    hint="remove models (prsm model ls, prsm model rm) or raise storage.quota",
                )
            self._reserved += size

    async def _sealed_row(self, root: Cid) -> RootRow:
        row = await self._index.get_root(root)
        if row is None or row.state is not State.SEALED:
            raise NotFound(f"{root} is not in this store", hint="list it with: prsm model ls")
        return row

    async def _leaves(self, row: RootRow) -> tuple[Leaf, ...]:
        if row.root not in self._leaf_lists:
            reader = DagReader(row.root, row.size)
            while wanted := reader.wanted():
                reader.accept(await self._index.get_block(wanted[0]))
            while len(self._leaf_lists) >= _LEAF_LISTS:
                del self._leaf_lists[next(iter(self._leaf_lists))]
            self._leaf_lists[row.root] = reader.leaves()
        return self._leaf_lists[row.root]

    async def _hop(self, call: Callable[[], _T]) -> _T:
        return await trio.to_thread.run_sync(call, limiter=self._limiter)
