"""What a store puts right when it is opened, after a crash, a power cut, or somebody's hands.

Knows: what rows and files may disagree about. Must not know: how they came to.

A file without a row is removed; a row without its bytes is `bad`; a file that was about to be
sealed is sealed if its bytes are here; leases of the process before are void, being in memory.
Where the whole index is new and files are there, it was lost: every file whose bytes lead to its
name is taken in again, and kept, since nobody knows any more which were pinned. Until all are, the
index says so, and nothing is removed: a start that was cut is gone on with by the next one.
"""

from pathlib import Path

import trio

from prsm.storage.cid import Cid
from prsm.storage.database import quarantine
from prsm.storage.errors import Corrupt, NotFound
from prsm.storage.store import sealed
from prsm.storage.store.blockstore import BlockIndex
from prsm.storage.store.index import PinRow, RootRow, State
from prsm.storage.store.pins import ADDED
from prsm.storage.store.shelf import Shelf
from prsm.storage.store.space import STRAY


async def open_index(path: Path) -> BlockIndex:
    """Open or make the index; a damaged one is put aside, as `.quarantine`, for a new one.

    Raises:
        Conflict: another process uses this store.
        StoreUnavailable: written by a newer version, or the disk refused.
    """
    try:
        return await BlockIndex.open(path)
    except Corrupt:
        await trio.to_thread.run_sync(quarantine, path)
        return await BlockIndex.open(path)


async def recover(shelf: Shelf) -> None:
    """Make index and folders agree, and remember what was used how much.

    Raises:
        Full, StoreUnavailable, Corrupt: the disk refused, or the index is damaged.
    """
    if not await shelf.index.is_adopted():
        await _adopt(shelf)
        await shelf.index.note_adopted()
    known: dict[Cid, State] = {}
    for row in await shelf.index.roots():
        state = await shelf.hop(shelf.folders.found, row)
        if state is None:
            await shelf.index.remove_root(row.root, even_pinned=True)
            continue
        if state is State.SEALED and row.state is State.SEALING:
            stamp = await shelf.hop(shelf.folders.reseal, row.root)
            await shelf.index.put_root(RootRow(row.root, row.size, state, stamp=stamp))
        elif state is State.BAD and row.state is not State.BAD:
            await _condemn(shelf, row)
        known[row.root] = state
    await shelf.hop(shelf.folders.sweep, known)
    await _list_leaves(shelf)
    shelf.uses.load({row.root: row.use for row in await shelf.index.roots()})
    shelf.uses.load({row.digest: row.use for row in await shelf.index.owned_blocks(STRAY)})


async def _adopt(shelf: Shelf) -> None:
    """Take files in that are there without an index; those that have a row were taken before."""
    known = {str(row.root) for row in await shelf.index.roots()}
    for path in await shelf.hop(shelf.folders.named):
        if path.name in known:
            continue
        found = await shelf.hop(sealed.look_at, path)
        if str(found.added.root) != path.name:
            continue
        stamp = await shelf.hop(sealed.stamp, path)
        root, size = found.added.root, found.added.size
        row = RootRow(root, size, State.SEALED, stamp, use=shelf.use(root))
        pin = PinRow(root, ADDED, "recovered")
        await shelf.index.put_root(row, found.nodes, found.leaves, pin=pin)


async def _condemn(shelf: Shelf, row: RootRow) -> None:
    """A sealed file is gone or of another size: find out which leaves are still good."""
    try:
        leaves = await shelf.leaves(row)
    except (Corrupt, NotFound):  # noted there
        return
    path = shelf.folders.file(row.root)
    bad: tuple[int, ...] = await shelf.hop(sealed.damaged, path, leaves, row.size)
    await shelf.condemn(row, bad)


async def _list_leaves(shelf: Shelf) -> None:
    """List the leaves of files that were stored before leaves were listed."""
    for root in await shelf.index.unlisted():
        row = await shelf.sealed_row(root)
        try:
            leaves = await shelf.leaves(row)
        except (Corrupt, NotFound):  # noted there; the file is fetched again
            continue
        await shelf.index.put_root(row, (), [leaf.digest for leaf in leaves])
