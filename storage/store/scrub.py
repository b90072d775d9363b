"""Checks what is on disk: whole files on request, and every leaf once in thirty days.

Knows: which leaf is next, how much to read. Must not know: who fetches damaged leaves again.

A damaged leaf makes its file `bad` by leaf: the others stay, and `begin_fetch` hands out a file
on its way that lacks only the damaged ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import trio

from prsm.storage.cid import Cid
from prsm.storage.dag.hashing import CHUNK
from prsm.storage.dag.unixfs import Shape
from prsm.storage.errors import Corrupt, NotFound
from prsm.storage.store import sealed
from prsm.storage.store.index import RootRow, State
from prsm.storage.store.shelf import Shelf

PERIOD_MS: Final = 30 * 24 * 3600 * 1000
_STEP_LEAVES: Final = 64  # hashed in one hop, so that the scrub soon notices that it should stop

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Damage:
    """A file that was found damaged, and its damaged leaves."""

    root: Cid
    leaves: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """What a scrub has read and found."""

    checked_bytes: int
    files: int
    damaged: Sequence[Damage]


class Scrub:
    """The checks of one store; one at a time."""

    def __init__(self, shelf: Shelf) -> None:
        """Check what is on a shelf."""
        self._shelf = shelf
        self._turn = trio.Lock()

    async def verify(self, root: Cid, progress: Progress | None = None) -> None:
        """Hash every leaf of a file, and remember the file as it is now.

        Args:
            root: of a file that is here, whole.
            progress: called with the bytes so far, in a worker thread.

        Raises:
            NotFound: it is not here.
            Corrupt: leaves have changed; the file is `bad` from now on.
        """
        async with self._shelf.leases.hold(root, holder="verify", purpose="verify"):
            row = await self._shelf.sealed_row(root)
            leaves, path = await self._shelf.leaves(row), self._shelf.folders.file(root)
            # The stamp of before: who touches the file meanwhile is noticed at the next read.
            stamp = await self._shelf.hop(sealed.stamp, path)
            bad = await self._shelf.hop(
                lambda: sealed.damaged(path, leaves, row.size, progress=progress)
            )
            if bad:
                raise await self._shelf.condemn(row, bad)
            async with self._shelf.changing:
                if not await self._shelf.is_still(row):
                    await self._shelf.sealed_row(root)
                    return
                await self._shelf.index.put_root(replace(row, stamp=stamp))
            await self._shelf.index.note_scrub(root, 0, self._shelf.now_ms())

    async def run(
        self, budget_bytes: int | None = None, progress: Progress | None = None
    ) -> Scrubbed:
        """Check leaves, those longest unchecked first.

        Args:
            budget_bytes: so many, going on where the last one stopped; None: everything once.
            progress: called with the bytes so far.
        """
        checked = files = 0
        damaged: list[Damage] = []
        async with self._turn:
            for row in await self._order():
                rest = None if budget_bytes is None else budget_bytes - checked
                if rest is not None and rest <= 0:
                    break
                try:
                    count, damage = await self._file(row, rest)
                except (NotFound, Corrupt):
                    count, damage = 0, await self._lost(row)
                    if damage is None:  # removed meanwhile
                        continue
                checked, files = checked + count, files + 1
                if damage is not None:
                    damaged.append(damage)
                if progress is not None:
                    progress(checked)
        return Scrubbed(checked, files, damaged)

    async def _order(self) -> Sequence[RootRow]:
        rows = [row for row in await self._shelf.index.roots() if row.state is State.SEALED]
        return sorted(rows, key=lambda row: (not row.scrub_next, row.scrubbed_ms))

    async def _file(self, row: RootRow, budget: int | None) -> tuple[int, Damage | None]:
        """Check one file from where it was left; returns bytes read, and what is damaged."""
        leaves = await self._shelf.leaves(row)
        path = self._shelf.folders.file(row.root)
        first = 0 if budget is None else row.scrub_next
        checked = 0
        while first < len(leaves) and (budget is None or checked < budget):
            count = _STEP_LEAVES
            if budget is not None:
                count = min(count, max(1, (budget - checked) // CHUNK))
            some = leaves[first : first + count]
            bad = await self._shelf.hop(sealed.damaged, path, some, row.size)
            checked, first = checked + sum(leaf.size for leaf in some), first + len(some)
            if bad:
                return checked, await self._damage(row)
        if first < len(leaves):
            await self._shelf.index.note_scrub(row.root, first, row.scrubbed_ms)
        else:
            await self._shelf.index.note_scrub(row.root, 0, self._shelf.now_ms())
        return checked, None

    async def _lost(self, row: RootRow) -> Damage | None:
        """Say what is damaged of a file whose nodes are lost; None: it has gone meanwhile."""
        now = await self._shelf.index.get_root(row.root)
        if now is None or now.state is not State.BAD:
            return None
        leaves = Shape.of(row.size).leaves
        good = now.bitmap or bytes((leaves + 7) // 8)
        bad = (place for place in range(leaves) if not good[place // 8] >> place % 8 & 1)
        return Damage(row.root, tuple(bad))

    async def _damage(self, row: RootRow) -> Damage | None:
        """Find all that is damaged of a file; None if it has gone meanwhile, or was repaired."""
        leaves, path = await self._shelf.leaves(row), self._shelf.folders.file(row.root)
        async with self._shelf.leases.hold(row.root, holder="scrub", purpose="scrub"):
            row = await self._shelf.sealed_row(row.root)
            bad: tuple[int, ...] = await self._shelf.hop(sealed.damaged, path, leaves, row.size)
            if not bad:
                return None
            await self._shelf.condemn(row, bad)
        return Damage(row.root, bad)
