"""The models of this node: files by CID, added, fetched, served, checked and kept within a budget.

Knows: who of its parts does what. Must not know: where a fetched block comes from (`exchange`
does). Source: docs/spec/storage.md, "Model store".

Parts: `intake` brings files in, `space` keeps the quota, `leases` and `pins` say what must stay,
`scrub` checks, `blocks` finds anything by its digest, `recovery` puts right what a crash left.
"""

import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import trio

from prsm.protocol.errors import WireError
from prsm.protocol.messages.models import Have, ModelManifest
from prsm.storage.cid import Cid, decode_cid
from prsm.storage.dag.unixfs import Shape
from prsm.storage.diskguard import DiskGuard
from prsm.storage.manifest import decode_manifest, encode_manifest
from prsm.storage.store import sealed
from prsm.storage.store.blocks import Blocks
from prsm.storage.store.eviction import Uses
from prsm.storage.store.index import Index, State
from prsm.storage.store.intake import Intake, OnRoot, Progress
from prsm.storage.store.leases import Leases
from prsm.storage.store.pins import Pin, Pins, PinState
from prsm.storage.store.recovery import open_index, recover
from prsm.storage.store.resume import Partial
from prsm.storage.store.scrub import Scrub, Scrubbed
from prsm.storage.store.sealed import AddedFile
from prsm.storage.store.shelf import Kept, Shelf
from prsm.storage.store.space import Collected, Space, SpaceReport
from prsm.storage.store.upkeep import Upkeep


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One line of `ModelStore.list`.

    Attributes:
        verified_bytes: of a file on its way or bad: what is here and right.
        pins: names.
        leases: how many use it now.
        used_ms: wall time of the last use; 0: none was noted.
        scrubbed_ms: wall time when all its leaves had last been checked; 0: never.
    """

    root: Cid
    size: int
    state: State
    verified_bytes: int
    pins: tuple[str, ...]
    leases: int = 0
    used_ms: int = 0
    scrubbed_ms: int = 0


def wall_ms() -> int:
    """The machine's UTC time in milliseconds."""
    return time.time_ns() // 1_000_000


class ModelStore:
    """The content store of one node.

    Attributes:
        budget: sets bytes aside for what is written beside the store.
        blocks: everything here by its digest, and blocks put by themselves.
        leases: who uses what.
        turn: of those who store several files as one thing (`staging`).
    """

    def __init__(self, shelf: Shelf, *, quota: int) -> None:
        """Wrap an open shelf; `open` is the way in."""
        self._shelf = shelf
        self._folders = shelf.folders
        self._index = shelf.index
        self.budget = self._space = Space(shelf, quota)
        self._intake = Intake(shelf, self._space)
        self._scrub = Scrub(shelf)
        self._pins = Pins(shelf)
        self._upkeep = Upkeep(shelf, self._space, self._scrub)
        self.leases = shelf.leases
        self.turn = trio.Semaphore(1)
        self.blocks = Blocks(shelf, self._space)

    @classmethod
    async def open(
        cls,
        folder: Path,
        *,
        quota: int,
        guard: DiskGuard | None = None,
        now_ms: Callable[[], int] = wall_ms,
    ) -> "ModelStore":
        """Open or make the store in a folder, and put right what a crash left behind.

        Args:
            folder: of this store alone.
            quota: bytes that files and blocks may take together.
            guard: watches the disk; without one only the quota counts.
            now_ms: wall time.

        Raises:
            Conflict: another process uses it.
            StoreUnavailable: written by a newer version, or the disk refused.
        """
        folders = sealed.Folders(folder)
        await trio.to_thread.run_sync(folders.make)
        index: Index = await open_index(folder / "index.db")
        shelf = Shelf(folders, index, Leases(now_ms), Uses(), now_ms, guard)
        store = cls(shelf, quota=quota)
        try:
            await recover(shelf)
        except BaseException:
            await store.close()  # noqa: ASYNC102 - close() shields itself
            raise
        return store

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Scrub, drop what is idle and tidy up, every minute until cancelled."""
        task_status.started()
        await self._upkeep.run()

    async def close(self) -> None:
        """Note how far fetches have come, and close."""
        with trio.CancelScope(shield=True):
            try:
                for partial in list(self._shelf.partials.values()):
                    await partial.close()
                self._shelf.partials.clear()
                await self._shelf.save_uses()
            finally:
                await self._index.close()  # noqa: ASYNC102 - shielded above

    async def add_file(
        self,
        path: Path,
        *,
        move: bool = False,
        on_progress: Progress | None = None,
        on_root: OnRoot | None = None,
    ) -> AddedFile:
        """Copy a file in (a reflink where the file system can), hashing as it streams.

        Cancelled, it leaves nothing behind. A file that is here already is not stored twice.

        Args:
            path: a regular file.
            move: take the file itself; its name is gone when it is sealed. On another file
                system than the store's it is copied first.
            on_progress: called with the bytes so far, in a worker thread.
            on_root: awaited when the root is known, before the store has it.

        Raises:
            NotFound: no such file.
            LocalError: no regular file.
            Full: the quota or the disk has no room, with the figures.
        """
        return await self._intake.add_file(path, move=move, progress=on_progress, on_root=on_root)

    async def has(self, root: Cid) -> bool:
        """Say whether a file is here, whole."""
        row = await self._index.get_root(root)
        return row is not None and row.state is State.SEALED

    async def have(self, root: Cid) -> Have:
        """Say which leaves of a file are here, whole or on its way.

        Raises:
            NotFound: nothing of it.
        """
        if (partial := self._shelf.partials.get(root)) is not None:
            return Have(partial.size, Shape.of(partial.size).leaves, partial.bitmap)
        row = await self._shelf.sealed_row(root)
        leaves = Shape.of(row.size).leaves
        return Have(row.size, leaves, sealed.full_bitmap(leaves))

    async def path(self, root: Cid) -> Path:
        """Return the read-only file of a root, for a worker to map.

        Raises:
            NotFound: it is not here, or not whole.
            Corrupt: somebody changed it; it is fetched again before it is served.
        """
        row, path = await self._shelf.sealed_row(root), self._folders.file(root)
        if await self._shelf.hop(sealed.stamp, path) != row.stamp:
            await self._scrub.verify(root)
        self._shelf.use(root)
        return path

    @asynccontextmanager
    async def lease(self, root: Cid, *, holder: str, purpose: str) -> AsyncIterator[Path]:
        """Use a file: nobody removes it while the block runs.

        Args:
            root: of the file.
            holder: who, for people.
            purpose: what for, one word.

        Raises:
            NotFound, Corrupt: as for `path`.
        """
        async with self.leases.hold(root, holder=holder, purpose=purpose):
            yield await self.path(root)

    async def read_leaves(self, root: Cid, first: int, count: int) -> Sequence[bytes]:
        """Return successive leaves of a file, whole or on its way, in one thread hop.

        Raises:
            NotFound: it is not here, or not those leaves.
            Corrupt: somebody changed the file.
        """
        if (partial := self._shelf.partials.get(root)) is not None:
            leaves = [partial.leaf(index) for index in range(first, first + count)]
            return await self._shelf.hop(lambda: [partial.read(leaf) for leaf in leaves])
        blocks = await self._shelf.read(root, first, count)
        if blocks is None:
            await self._scrub.verify(root)
            blocks = await self._shelf.read(root, first, count)
        self._shelf.use_part(root)
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

        Of a `bad` file the good leaves are here: only the damaged ones are missing.

        Raises:
            Conflict: it is being fetched, or is here already.
            Full: the quota or the disk has no room, with the figures.
            BadDag: a root of the wrong codec for that size, or what is here of it is of another.
        """
        return await self._intake.begin_fetch(root, size)

    async def end_fetch(self, partial: Partial) -> None:
        """Close a fetch: seal the file if it is whole, else keep it for later.

        Raises:
            Full, StoreUnavailable: the disk refused.
        """
        if await self._intake.end_fetch(partial):
            await self._pins.fail(partial.root, "")

    async def verify(self, root: Cid, on_progress: Progress | None = None) -> None:
        """Hash every leaf of a file.

        Args:
            root: of a file that is here, whole.
            on_progress: called with the bytes so far, in a worker thread.

        Raises:
            NotFound: it is not here.
            Corrupt: leaves have changed, it names which; the file is `bad` from now on.
        """
        await self._scrub.verify(root, on_progress)

    async def scrub(
        self, budget_bytes: int | None = None, on_progress: Progress | None = None
    ) -> Scrubbed:
        """Check leaves, those longest unchecked first; what is damaged is `bad` by leaf.

        Args:
            budget_bytes: so many, going on where the last scrub stopped; None: all, once.
            on_progress: called with the bytes so far.
        """
        return await self._scrub.run(budget_bytes, on_progress)

    async def remove(self, root: Cid) -> None:
        """Delete a file; who has it open keeps it until closed.

        Raises:
            NotFound: it is not here.
            Conflict: it is pinned, in use, or being fetched.
        """
        await self._shelf.remove(root)

    async def remove_all(
        self, roots: Collection[Cid], names: Collection[str], *, kept: Kept
    ) -> frozenset[Cid]:
        """As `Shelf.remove_all`: give names up and delete the files they kept, all or none."""
        return await self._shelf.remove_all(roots, names, kept=kept)

    async def list(self) -> Sequence[StoredFile]:
        """Return all files, oldest first."""
        pins: dict[Cid, tuple[str, ...]] = {}
        for pin in await self._index.pins():
            pins[pin.root] = (*pins.get(pin.root, ()), pin.name)
        files = []
        for row in await self._index.roots():
            partial = self._shelf.partials.get(row.root)
            here = sealed.bytes_of(row)
            if partial is not None:
                here = partial.verified_bytes
            used_ms = max(row.use.used_ms, self._shelf.uses.of(row.root).used_ms)
            leases = len(self.leases.granted(row.root))
            names = pins.get(row.root, ())
            files.append(
                StoredFile(
                    row.root, row.size, row.state, here, names, leases, used_ms, row.scrubbed_ms
                )
            )
        return files

    async def pin(self, root: Cid, name: str, owner: str = "") -> PinState:
        """Keep a root, here already or not, under a name; twice is once. Answers at once."""
        return await self._pins.add(root, name, owner)

    async def unpin(self, root: Cid, name: str) -> None:
        """Give a name up.

        Raises:
            NotFound: no such pin.
        """
        await self._index.unpin(root, name)

    async def pins(self) -> Sequence[Pin]:
        """Return all pins with their states, by root and name."""
        return await self._pins.list()

    async def pin_failed(self, root: Cid, why: str) -> None:
        """Note why a pinned root could not be fetched; forgotten when it is whole."""
        await self._pins.fail(root, why)

    async def gc(self, *, dry_run: bool = False, partials: bool = False) -> Collected:
        """Remove what is used least until the store is below 80 % of its quota.

        Args:
            dry_run: only say what would go, and why.
            partials: also drop all files on their way that nobody fetches now.
        """
        return await self._space.collect(dry_run=dry_run, partials=partials)

    async def used_bytes(self) -> int:
        """Return what files and blocks take, files on their way with their whole size."""
        return await self._space.used_bytes()

    async def space(self) -> SpaceReport:
        """Say where the bytes of the quota are."""
        return await self._space.report()

    async def save_manifest(self, manifest: ModelManifest) -> Cid:
        """Keep a manifest; its CID is what the ledger registers.

        Raises:
            LocalError: a path, an index or a size in it is wrong.
            Full: no room.
        """
        raw = encode_manifest(manifest)
        async with self._space.reserved(len(raw)) as reservation, reservation.settled():
            return await self._index.put_manifest(raw)

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
