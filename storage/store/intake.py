"""How files come into a store: added from a path, or fetched leaf by leaf, and given their name.

Knows: the order on disk. Must not know: where fetched bytes come from (`exchange` does).

Order, always: data synced -> index row -> name -> folder synced -> `sealed`. A crash in between
is put right at the next start (`recovery`).
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import trio

from prsm.storage.cid import Cid
from prsm.storage.dag.unixfs import DagReader
from prsm.storage.errors import Conflict
from prsm.storage.store import sealed
from prsm.storage.store.index import RootRow, State
from prsm.storage.store.resume import Partial
from prsm.storage.store.sealed import FROM_FRESH, FROM_PARTIAL, AddedFile
from prsm.storage.store.shelf import Shelf
from prsm.storage.store.space import Reservation, Space
from prsm.storage.wholefile import regular_size

Progress = Callable[[int], None]
OnRoot = Callable[[Cid], Awaitable[None]]


class Intake:
    """The way into one store."""

    def __init__(self, shelf: Shelf, space: Space) -> None:
        """Put files on a shelf, within its space."""
        self._shelf = shelf
        self._space = space
        self._sealing = trio.Lock()

    async def add_file(
        self, path: Path, *, move: bool, progress: Progress | None, on_root: OnRoot | None
    ) -> AddedFile:
        """Take a file in; see `ModelStore.add_file`."""
        shelf = self._shelf
        size = await shelf.hop(regular_size, path)
        async with self._space.reserved(size) as reservation:
            target = shelf.folders.fresh()
            fresh = await shelf.hop(
                lambda: sealed.take(path, target, size, move=move, progress=progress)
            )
            root = fresh.added.root
            row = RootRow(root, fresh.added.size, State.SEALING, FROM_FRESH, use=shelf.use(root))
            with trio.CancelScope(shield=True):
                try:
                    if on_root is not None:
                        await on_root(root)
                    await self._seal(row, fresh.path, (fresh.nodes, fresh.leaves), reservation)
                    if move:
                        await self._leave(path, root)
                finally:
                    await shelf.hop(lambda: fresh.path.unlink(missing_ok=True))  # noqa: ASYNC102 - shielded above
        return fresh.added

    async def begin_fetch(self, root: Cid, size: int) -> Partial:
        """Start or go on with fetching a file; see `ModelStore.begin_fetch`."""
        shelf = self._shelf
        _refuse_second(root, shelf)
        async with shelf.leases.hold(root, holder="fetch", purpose="fetch"):
            row = await shelf.index.get_root(root)
            if row is not None and row.state is State.SEALED:
                raise Conflict(f"{root} is here already")
            if row is not None and row.state is State.BAD and row.size == size and row.bitmap:
                row = await self._reopen(row)
            is_new = row is None or row.state is State.BAD or row.size != size
            if row is None or is_new:
                row = await self._begin_new(root, size)
            _refuse_second(root, shelf)
            path = shelf.folders.partial(root)
            partial = Partial(shelf.index, path, row, shelf.limiter, shelf.now_ms)
            shelf.partials[root] = partial
            try:
                async with shelf.writing():
                    await partial.open()
            except BaseException:
                del shelf.partials[root]
                if is_new:
                    await self._forget(root)  # noqa: ASYNC102 - shields itself
                raise
        return partial

    async def end_fetch(self, partial: Partial) -> bool:
        """Close a fetch; says whether the file is whole and sealed now."""
        shelf, root = self._shelf, partial.root
        with trio.CancelScope(shield=True):
            try:
                async with shelf.writing():
                    await partial.close()
                    if partial.wanted_nodes() or partial.missing():
                        return False
                    row = RootRow(root, partial.size, State.SEALING, stamp=FROM_PARTIAL)
                    known = ((), partial.digests())
                    await self._seal(row, shelf.folders.partial(root), known, None)
                    await shelf.hop(shelf.folders.remove_partial, root)
            finally:
                shelf.partials.pop(root, None)
        return True

    async def _seal(
        self,
        row: RootRow,
        fresh: Path,
        known: tuple[Sequence[bytes], Sequence[bytes]],
        reservation: Reservation | None,
    ) -> None:
        """Give synced bytes their name.

        Args:
            row: in state `sealing`.
            fresh: the bytes.
            known: interior nodes that are not in the index yet, and digests of all leaves.
            reservation: given back when the row is written.
        """
        shelf, root = self._shelf, row.root
        nodes, leaves = known
        hold = shelf.leases.hold(root, holder="store", purpose="seal")
        async with self._sealing, hold:
            found = await shelf.index.get_root(root)
            if found is not None and found.state is State.SEALED:
                return
            shelf.use(root)
            async with nullcontext() if reservation is None else reservation.settled():
                await shelf.index.put_root(row, nodes, leaves)
            stamp = await shelf.hop(shelf.folders.seal, fresh, root)
            await shelf.index.put_root(RootRow(root, row.size, State.SEALED, stamp=stamp))
            if row.stamp == FROM_FRESH and root not in shelf.partials:
                # What was left of a fetch that nobody went on with.
                await shelf.hop(shelf.folders.remove_partial, root)

    async def _leave(self, path: Path, root: Cid) -> None:
        """Remove the first name of a file that was moved in, which changes its stamp."""
        shelf = self._shelf
        await shelf.hop(lambda: path.unlink(missing_ok=True))
        row = await shelf.sealed_row(root)
        stamp = await shelf.hop(sealed.stamp, shelf.folders.file(root))
        await shelf.index.put_root(RootRow(root, row.size, State.SEALED, stamp=stamp))

    async def _reopen(self, row: RootRow) -> RootRow:
        """Make a damaged file one on its way that has its good leaves."""
        shelf = self._shelf
        with trio.CancelScope(shield=True):
            if not await shelf.hop(shelf.folders.reopen, row.root, row.size):
                return RootRow(row.root, row.size, State.BAD)
            again = RootRow(row.root, row.size, State.PARTIAL, bitmap=row.bitmap)
            await shelf.index.put_root(again)
            await shelf.index.note_progress(row.root, row.bitmap, shelf.now_ms())
        return again

    async def _begin_new(self, root: Cid, size: int) -> RootRow:
        DagReader(root, size)
        async with self._space.reserved(size) as reservation:
            await self._shelf.hop(self._shelf.folders.remove, root)
            row = RootRow(root, size, State.PARTIAL, use=self._shelf.use(root))
            async with reservation.settled():
                await self._shelf.index.put_root(row)
            await self._shelf.index.note_progress(root, b"", self._shelf.now_ms())
        return row

    async def _forget(self, root: Cid) -> None:
        with trio.CancelScope(shield=True):
            await self._shelf.index.remove_root(root, even_pinned=True)
            self._shelf.forget(root)
            await self._shelf.hop(self._shelf.folders.remove, root)


def _refuse_second(root: Cid, shelf: Shelf) -> None:
    if root in shelf.partials:
        raise Conflict(f"{root} is being fetched already")
