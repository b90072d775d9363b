"""What the parts of one store share: its folders, its index, who uses what, and its threads.

Knows: how to find a file's row, leaves and path. Must not know: what a part does with them.
"""

from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar

import trio

from prsm.storage.cid import Cid
from prsm.storage.dag.unixfs import DagReader
from prsm.storage.diskguard import DiskGuard
from prsm.storage.errors import Conflict, Corrupt, Full, NotFound
from prsm.storage.interfaces import Leaf
from prsm.storage.store import sealed
from prsm.storage.store.eviction import Uses
from prsm.storage.store.index import Index, RootRow, State, Use
from prsm.storage.store.leases import Leases
from prsm.storage.store.resume import Partial

_T = TypeVar("_T")
Kept = Callable[[], Awaitable[Collection[Cid]]]
# Threads for hashing and file reads of this store; a hung disk must not eat trio's own pool.
_THREADS: Final = 4
_LEAF_LISTS: Final = 16  # leaf lists kept in memory; 32 KiB for each GiB of file
_SAME_USE_MS: Final = 60_000  # reads of a file by leaves this close together are one use


@dataclass
class Shelf:
    """One store's shared state; `ModelStore.open` makes it.

    Attributes:
        partials: files being fetched now.
        changing: who changes the state of a file by what its row says reads that row, and writes
            it, under this lock; taken before the one of the counting, and never within it.
    """

    folders: sealed.Folders
    index: Index
    leases: Leases
    uses: Uses
    now_ms: Callable[[], int]
    guard: DiskGuard | None = None
    partials: dict[Cid, Partial] = field(default_factory=dict)
    changing: trio.Lock = field(default_factory=trio.Lock)
    limiter: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(_THREADS))
    _leaf_lists: dict[Cid, tuple[Leaf, ...]] = field(default_factory=dict)

    async def hop(self, call: Callable[..., _T], *args: object) -> _T:
        """Run a call in one of the store's threads."""
        return await trio.to_thread.run_sync(partial(call, *args), limiter=self.limiter)

    async def sealed_row(self, root: Cid) -> RootRow:
        """Return the row of a file that is here, whole.

        Raises:
            NotFound: it is not.
        """
        row = await self.index.get_root(root)
        if row is None or row.state is not State.SEALED:
            raise NotFound(f"{root} is not in this store", hint="list it with: prsm model ls")
        return row

    async def leaves(self, row: RootRow) -> tuple[Leaf, ...]:
        """Return the leaves of a file whose nodes are here.

        Raises:
            NotFound, Corrupt: a node is gone or has changed.
        """
        if row.root not in self._leaf_lists:
            reader = DagReader(row.root, row.size)
            try:
                while wanted := reader.wanted():
                    reader.accept(await self.index.get_block(wanted[0]))
            except (Corrupt, NotFound):
                await self._condemn_all(row, reader.shape.leaves)  # noqa: ASYNC120 - shields itself
                raise
            while len(self._leaf_lists) >= _LEAF_LISTS:
                with suppress(StopIteration):
                    del self._leaf_lists[next(iter(self._leaf_lists))]
            self._leaf_lists[row.root] = reader.leaves()
        return self._leaf_lists[row.root]

    async def read(self, root: Cid, first: int, count: int) -> Sequence[bytes] | None:
        """Return leaves of a sealed file; None if somebody touched it.

        Raises:
            NotFound: it is not here, or has no such leaf.
            Corrupt: it is shorter than it was.
        """
        row = await self.sealed_row(root)
        listed = await self.leaves(row)
        if not 0 <= first < len(listed) or count < 1:
            raise NotFound(f"{root} has {len(listed)} leaves, not one at {first}")
        wanted = listed[first : first + count]
        return await self.hop(sealed.read, self.folders.file(root), wanted, row.stamp)

    def use(self, key: Cid | bytes) -> Use:
        """Count a use of a file as a whole, or of a block."""
        return self.uses.touch(key, self.now_ms())

    def use_part(self, root: Cid) -> None:
        """Count a read of some leaves: all within a minute are one use."""
        self.uses.touch(root, self.now_ms(), apart_ms=_SAME_USE_MS)

    async def remove(self, root: Cid) -> None:
        """Forget a file and delete its bytes; who has it open keeps it until closed.

        Raises:
            NotFound: it is not here.
            Conflict: it is leased, pinned or being fetched.
        """
        with self._claim(root), trio.CancelScope(shield=True):
            await self.index.remove_root(root)
            await self._drop(root)

    async def remove_all(
        self, roots: Collection[Cid], names: Collection[str], *, kept: Kept
    ) -> frozenset[Cid]:
        """Give names up and delete the files they kept, all or none; those not here are no error.

        Args:
            roots: of the files.
            names: of pins.
            kept: awaited when nobody can begin to use one any more; those that it returns stay.

        Returns:
            The roots that went.

        Raises:
            Conflict: one is leased, pinned under another name, or being fetched.
        """
        with ExitStack() as claims:
            for root in roots:
                claims.enter_context(self._claim(root))
            gone = frozenset(roots).difference(await kept())
            with trio.CancelScope(shield=True):
                await self.index.remove_roots(gone, names)
                for root in gone:
                    await self._drop(root)
        return gone

    @contextmanager
    def _claim(self, root: Cid) -> Iterator[None]:
        if root in self.partials:
            raise Conflict(f"{root} is being fetched")
        with self.leases.claim(root):
            yield

    async def _drop(self, root: Cid) -> None:
        self.forget(root)
        await self.hop(self.folders.remove, root)

    def forget(self, root: Cid) -> None:
        """Drop what is remembered of a file."""
        self._leaf_lists.pop(root, None)
        self.uses.forget(root)

    async def condemn(self, row: RootRow, bad: Sequence[int]) -> Corrupt:
        """Note that leaves of a sealed file are damaged: it is `bad`, its other leaves stay.

        If it has changed since its row was read nothing is noted.

        Returns:
            The error to raise.
        """
        leaves = await self.leaves(row)
        async with self.changing:
            if await self.is_still(row):
                is_here = await self.hop(self.folders.file(row.root).is_file)
                bitmap = sealed.bitmap_without(len(leaves), bad) if is_here else b""
                await self.index.put_root(RootRow(row.root, row.size, State.BAD, bitmap=bitmap))
        named = ", ".join(str(place) for place in bad[:_SHOWN]) + (", …" if bad[_SHOWN:] else "")
        what = f"leaf {named}" if len(bad) == 1 else f"leaves {named} ({len(bad)})"
        return Corrupt(
            f"{row.root}: {what} of {len(leaves)} {'has' if len(bad) == 1 else 'have'} changed on "
            "disk",
            hint=f"fetch it again, only those are asked for: prsm model pull {row.root}",
        )

    async def _condemn_all(self, row: RootRow, count: int) -> None:
        """Note that a node is lost: nobody can say which leaves are good, all are fetched again."""
        nothing = sealed.bitmap_without(count, range(count))
        with trio.CancelScope(shield=True):
            hold = self.leases.hold(row.root, holder="store", purpose="check")
            async with hold, self.changing:
                if await self.is_still(row):
                    bad = RootRow(row.root, row.size, State.BAD, bitmap=nothing)
                    await self.index.put_root(bad)

    async def is_still(self, row: RootRow) -> bool:
        """Say whether a file is as its row said when it was looked at; asked while `changing`.

        Else it was removed, fetched or added anew meanwhile, or another check was quicker: what
        was found is not true of what is here now.
        """
        now = await self.index.get_root(row.root)
        return now is not None and (now.state, now.stamp) == (row.state, row.stamp)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Give the reserve up when the disk turns out to be full inside the block; in any thread.

        Nothing is reserved inside: what the quota or the guard refuses leaves the disk as it is.
        """
        try:
            yield
        except Full:
            if self.guard is not None:
                self.guard.free_reserve()
            raise

    async def save_uses(self) -> None:
        """Write the uses counted since the last call.

        Raises:
            Full, StoreUnavailable: the disk refused; the order of eviction is a little older.
        """
        files, blocks = self.uses.take_unsaved()
        if files or blocks:
            await self.index.note_uses(files, blocks)


_SHOWN: Final = 8  # damaged leaves named in a message
