"""How files come into a store: added from a path, or fetched leaf by leaf, and given their name.

Knows: the order on disk. Must not know: where fetched bytes come from (`exchange` does).

Order, always: data synced -> index row -> name -> folder synced -> `sealed`. A crash in between
is put right at the next start (`recovery`). Where a file has the name and has a row, that row
stays until the name is the new one's.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import trio

from prsm.storage.cid import Cid
from prsm.storage.dag.unixfs import DagReader
from prsm.storage.errors import BadDag, Conflict, Corrupt, NotFound
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
                    known = (fresh.nodes, fresh.leaves)
                    await self._seal(row, fresh.path, known, reservation, path if move else None)
                finally:
                    await shelf.hop(sealed.drop, fresh.path)  # noqa: ASYNC102 - shielded above
        return fresh.added

    async def begin_fetch(self, root: Cid, size: int) -> Partial:
        """Start or go on with fetching a file; see `ModelStore.begin_fetch`."""
        shelf, is_new = self._shelf, False
        DagReader(root, size)
        _refuse_second(root, shelf)
        async with shelf.leases.hold(root, holder="fetch", purpose="fetch"):
            async with shelf.changing:
                partial = await self._resume(root, size)
            if partial is None:
                async with self._space.reserved(size) as reservation, shelf.changing:
                    # It may have been added, or begun by somebody else, while room was made.
                    partial = await self._resume(root, size)
                    if partial is None:
                        partial = await self._begin_new(root, size, reservation)
                        is_new = True
            try:
                with shelf.writing():
                    await partial.open()
            except BaseException:
                await self._give_up(partial, is_new=is_new)  # noqa: ASYNC102 - shields itself
                raise
        return partial

    async def end_fetch(self, partial: Partial) -> bool:
        """Close a fetch; says whether the file is whole and sealed now."""
        shelf, root = self._shelf, partial.root
        with trio.CancelScope(shield=True):
            try:
                with shelf.writing():
                    await partial.close()
                    if not partial.wanted_nodes() and not partial.missing():
                        row = RootRow(root, partial.size, State.SEALING, stamp=FROM_PARTIAL)
                        known = ((), partial.digests())
                        await self._seal(row, shelf.folders.partial(root), known)
            finally:
                is_here = await self._leave_partial(root)  # noqa: ASYNC102 - shielded above
        return is_here

    async def _seal(
        self,
        row: RootRow,
        fresh: Path,
        known: tuple[Sequence[bytes], Sequence[bytes]],
        reservation: Reservation | None = None,
        moved: Path | None = None,
    ) -> None:
        """Give synced bytes their name, unless a file that nobody touched has it.

        Args:
            row: in state `sealing`.
            fresh: the bytes.
            known: interior nodes that are not in the index yet, and digests of all leaves.
            reservation: given back when the row is written.
            moved: a name of the file that goes when the file is sealed.
        """
        shelf, root = self._shelf, row.root
        hold = shelf.leases.hold(root, holder="store", purpose="seal")
        async with shelf.changing, hold:
            found = await shelf.index.get_root(root)
            stamp = await shelf.hop(sealed.stamp, shelf.folders.file(root))
            is_here = found is not None and found.state is State.SEALED and found.stamp == stamp
            if not is_here:
                shelf.use(root)
                if stamp:
                    stamp = await self._put_over(row, fresh, known, reservation)
                else:
                    stamp = await self._put(row, fresh, known, reservation)
                if row.stamp == FROM_FRESH and root not in shelf.partials:
                    # What was left of a fetch that nobody went on with.
                    await shelf.hop(shelf.folders.remove_partial, root)
            if moved is not None:
                await shelf.hop(sealed.drop, moved)
                # The file that was moved in has lost a name, and has another stamp for it.
                now = await shelf.hop(sealed.stamp, shelf.folders.file(root))
                if not is_here and now != stamp:
                    await shelf.index.put_root(replace(row, state=State.SEALED, stamp=now))

    async def _put(
        self,
        row: RootRow,
        fresh: Path,
        known: tuple[Sequence[bytes], Sequence[bytes]],
        reservation: Reservation | None,
    ) -> str:
        """Give bytes a name that no file has; returns the stamp."""
        async with _settled(reservation):
            await self._shelf.index.put_root(row, *known)
        stamp = await self._shelf.hop(self._shelf.folders.seal, fresh, row.root)
        await self._shelf.index.put_root(replace(row, state=State.SEALED, stamp=stamp))
        return stamp

    async def _put_over(
        self,
        row: RootRow,
        fresh: Path,
        known: tuple[Sequence[bytes], Sequence[bytes]],
        reservation: Reservation | None,
    ) -> str:
        """Put bytes in the place of a file that was touched or damaged; returns the stamp.

        The name first: after a crash a row `sealing` would be believed of the old file. The old
        row is true of the new file, too: its leaves are good, and its stamp is another one.
        """
        stamp = await self._shelf.hop(self._shelf.folders.seal, fresh, row.root)
        async with _settled(reservation):
            whole = replace(row, state=State.SEALED, stamp=stamp)
            await self._shelf.index.put_root(whole, *known)
        return stamp

    async def _resume(self, root: Cid, size: int) -> Partial | None:
        """Go on with what is here of a file; None: there is nothing to go on with.

        Raises:
            Conflict: it is being fetched, or is here already.
            BadDag: what is here of it is of another size.
        """
        _refuse_second(root, self._shelf)
        row = await self._shelf.index.get_root(root)
        if row is not None and row.state is State.SEALED:
            raise Conflict(f"{root} is here already")
        if row is None:
            return None
        if row.size != size:
            await self._check_size(row, size)
            return None
        if row.state is State.BAD:
            again = await self._reopen(row) if row.bitmap else None
            return None if again is None else self._enter(again)
        return self._enter(row)

    async def _check_size(self, row: RootRow, size: int) -> None:
        """Refuse another size than the row's, unless nothing here shows that the row is right.

        A size is what some manifest says, and anybody may name this root in one: what was once
        verified against a size goes for none of another, nor does its row.
        """
        is_proven = row.state is not State.PARTIAL or any(row.bitmap)
        reader = DagReader(row.root, size)
        if not is_proven and row.root.digest in reader.wanted():
            with suppress(NotFound, Corrupt):  # then neither size is known to be right
                reader.accept(await self._shelf.index.get_block(row.root.digest))
        if is_proven:
            raise BadDag(
                f"{row.root} has {row.size} bytes, not {size}",
                hint="the manifest that says so is wrong",
            )

    async def _reopen(self, row: RootRow) -> RootRow | None:
        """Make a damaged file one on its way that has its good leaves; None: all of it is gone."""
        shelf = self._shelf
        with trio.CancelScope(shield=True):
            if not await shelf.hop(shelf.folders.reopen, row.root, row.size):
                return None
            again = RootRow(row.root, row.size, State.PARTIAL, bitmap=row.bitmap)
            await shelf.index.put_root(again)
            await shelf.index.note_progress(row.root, row.bitmap, shelf.now_ms())
        return again

    async def _begin_new(self, root: Cid, size: int, reservation: Reservation) -> Partial:
        shelf = self._shelf
        await shelf.hop(shelf.folders.remove, root)
        row = RootRow(root, size, State.PARTIAL, use=shelf.use(root))
        async with reservation.settled():
            await shelf.index.put_root(row)
        await shelf.index.note_progress(root, b"", shelf.now_ms())
        return self._enter(row)

    def _enter(self, row: RootRow) -> Partial:
        shelf = self._shelf
        path = shelf.folders.partial(row.root)
        partial = Partial(shelf.index, path, row, shelf.limiter, shelf.now_ms)
        shelf.partials[row.root] = partial
        return partial

    async def _give_up(self, partial: Partial, *, is_new: bool) -> None:
        """Take back a fetch that did not open, and forget the file if it began with that."""
        shelf, root = self._shelf, partial.root
        with trio.CancelScope(shield=True):
            try:
                await partial.close()
                async with shelf.changing:
                    row = await shelf.index.get_root(root)
                    if is_new and row is not None and row.state is State.PARTIAL:
                        await shelf.index.remove_root(root, even_pinned=True)
                        shelf.forget(root)
            finally:
                await self._leave_partial(root)  # noqa: ASYNC102 - shielded above

    async def _leave_partial(self, root: Cid) -> bool:
        """End a fetch: its bytes stay only for a row that speaks of them.

        Returns:
            Whether the file is sealed: by this fetch, or since it was added meanwhile.
        """
        shelf = self._shelf
        try:
            async with shelf.changing:
                row = await shelf.index.get_root(root)
                if row is None or row.state not in {State.PARTIAL, State.SEALING}:
                    await shelf.hop(shelf.folders.remove_partial, root)
        finally:
            shelf.partials.pop(root, None)
        return row is not None and row.state is State.SEALED


def _settled(reservation: Reservation | None) -> AbstractAsyncContextManager[None]:
    return nullcontext() if reservation is None else reservation.settled()


def _refuse_second(root: Cid, shelf: Shelf) -> None:
    if root in shelf.partials:
        raise Conflict(f"{root} is being fetched already")
