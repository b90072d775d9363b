"""The size budget of a store: what is used, what is set aside, and what goes to make room.

Knows: the quota, the watermarks, when to collect. Must not know: how a file is added or fetched.

Invariants: reservations and rows together never pass the quota; adding, fetching and collecting
take the one lock here in turn, and a file used after a collection has looked is not collected
(its use is later than the look: one clock of uses is the epoch of both).
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

import trio

from prsm.storage.cid import Cid
from prsm.storage.errors import Conflict, Full, NotFound
from prsm.storage.store.eviction import (
    HIGH_PERCENT,
    LOW_PERCENT,
    PARTIAL_IDLE_MS,
    Judged,
    choose,
    mark,
)
from prsm.storage.store.index import RootRow, State, Used
from prsm.storage.store.shelf import Shelf

STRAY: Final = b"stray:"  # owner of blocks put by themselves; the owner's name follows


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection removed, or would remove, and what it kept and why."""

    gone: Sequence[Judged]
    kept: Sequence[Judged]
    freed_bytes: int
    used_bytes: int
    quota_bytes: int


@dataclass(frozen=True, slots=True)
class SpaceReport:
    """Where the bytes of the quota are; pinned and leased files are among `used`."""

    quota_bytes: int
    used: Used
    reserved_bytes: int
    pinned_bytes: int
    leased_bytes: int

    @property
    def used_bytes(self) -> int:
        """Bytes that are not free."""
        return self.used.total + self.reserved_bytes


class Reservation:
    """Bytes set aside until a row speaks of them."""

    def __init__(self, space: "Space", size: int) -> None:
        """Set bytes aside; `Space.reserved` has found that they fit."""
        self._space = space
        self._size = size
        space.reserved_bytes += size

    @asynccontextmanager
    async def settled(self) -> AsyncIterator[None]:
        """Write the row inside the block: nobody counts its bytes twice, or not at all."""
        async with self._space.counting:
            yield
            self.release()

    def release(self) -> None:
        """Give the bytes back; once is enough."""
        self._space.reserved_bytes -= self._size
        self._size = 0


class Space:
    """The budget of one store."""

    def __init__(self, shelf: Shelf, quota: int) -> None:
        """Keep a shelf within a quota of bytes."""
        self._shelf = shelf
        self.quota = quota
        self.reserved_bytes = 0
        self.counting = trio.Lock()

    async def used_bytes(self) -> int:
        """Return what files and blocks take, files on their way with their whole size."""
        async with self.counting:
            return await self._used()

    @asynccontextmanager
    async def reserved(self, size: int) -> AsyncIterator["Reservation"]:
        """Set bytes of the quota aside and write them in the block; as `set_aside`."""
        async with self.set_aside(size) as reservation:
            with self.writing():
                yield reservation

    @asynccontextmanager
    async def set_aside(self, size: int) -> AsyncIterator["Reservation"]:
        """Set bytes of the quota aside until their row is written; makes room for them.

        Raises:
            Full: they do not fit, with the figures; nothing was removed for them in vain.
            StoreUnavailable: the disk is read-only.
        """
        async with self.counting:
            if self._shelf.guard is not None:
                self._shelf.guard.check(size)
            used = await self._used()
            if used + size > mark(self.quota, HIGH_PERCENT):
                used = await self._make_room(used, size)
            if used + size > self.quota:
                raise await self._full(used, size)
            reservation = Reservation(self, size)
        try:
            yield reservation
        finally:
            reservation.release()

    def writing(self) -> AbstractContextManager[None]:
        """As `Shelf.writing`: a disk that is full inside the block gets the reserve."""
        return self._shelf.writing()

    @asynccontextmanager
    async def beside(self, size: int) -> AsyncIterator[None]:
        """Write bytes in the block that the quota does not count, if the disk has room for them.

        Raises:
            Full: it has not.
            StoreUnavailable: the disk is read-only.
        """
        if self._shelf.guard is not None:
            self._shelf.guard.check(size)
        with self.writing():
            yield

    async def collect(self, *, dry_run: bool = False, partials: bool = False) -> Collected:
        """Remove what is used least until the store is below its lower mark.

        Args:
            dry_run: only say what would go and why.
            partials: also drop all files on their way that nobody is fetching now, not only
                those without progress for 7 days.
        """
        async with self.counting:
            epoch = self._shelf.uses.now
            idle = await self._idle(partials=partials)
            held = await self._held(skip={one.key for one in idle})
            used = await self._used()
            idle_bytes = sum(one.size for one in idle)
            target = mark(self.quota, LOW_PERCENT)
            choice = choose(held, used_bytes=used - idle_bytes, target_bytes=target)
            gone = [*idle, *choice.gone]
            if not dry_run:
                gone = await self._remove(gone, epoch)
                used = await self._used()
            freed = sum(one.size for one in gone)
        return Collected(gone, choice.kept, freed, used, self.quota)

    async def drop_idle(self) -> Sequence[Judged]:
        """Drop files on their way without progress for 7 days."""
        async with self.counting:
            epoch = self._shelf.uses.now
            return await self._remove(await self._idle(partials=False), epoch)

    async def report(self) -> SpaceReport:
        """Say where the bytes are."""
        index = self._shelf.index
        leased = {lease.root for lease in self._shelf.leases.granted()}
        return SpaceReport(
            self.quota,
            await index.used(),
            self.reserved_bytes,
            await index.pinned_bytes(),
            await index.bytes_of(leased),
        )

    async def _used(self) -> int:
        return self.reserved_bytes + (await self._shelf.index.used()).total

    async def _make_room(self, used: int, size: int) -> int:
        """Collect down to the lower mark, or as far as is needed; returns what is used then."""
        epoch = self._shelf.uses.now
        held = await self._held(skip=set())
        choice = choose(held, used_bytes=used + size, target_bytes=mark(self.quota, LOW_PERCENT))
        if used - choice.freed_bytes + size > self.quota:
            return used  # it would be in vain
        await self._remove(choice.gone, epoch)
        return await self._used()

    async def _full(self, used: int, size: int) -> Full:
        report = await self.report()
        return Full(
            f"{size} bytes do not fit: {used} of {self.quota} bytes of the quota are used, "
            f"{report.pinned_bytes} of them pinned, {report.leased_bytes} in use, "
            f"{report.used.partial + report.reserved_bytes} on their way",
            hint="remove or unpin models (prsm model ls, prsm model rm), or raise storage.quota",
        )

    async def _held(self, *, skip: set[Cid | bytes]) -> list[Judged]:
        pinned = {pin.root: pin.name for pin in await self._shelf.index.pins()}
        held = [
            self._judge(row, pinned)
            for row in await self._shelf.index.roots()
            if row.root not in skip
        ]
        held += [
            Judged(row.digest, row.size, self._shelf.uses.of(row.digest).heat)
            for row in await self._shelf.index.owned_blocks(STRAY)
        ]
        return held

    def _judge(self, row: RootRow, pinned: dict[Cid, str]) -> Judged:
        leases = self._shelf.leases.granted(row.root)
        why = ""
        if row.root in pinned:
            why = f"pinned as {pinned[row.root]}"
        elif row.root in self._shelf.partials:
            why = "being fetched"
        elif leases:
            why = f"in use: {leases[0].holder or 'somebody'}, {leases[0].purpose}"
        elif row.state is State.PARTIAL:
            why = "on its way; goes after 7 days without progress"
        elif row.state is State.SEALING:
            why = "being sealed"
        size = 0 if row.state is State.BAD and not row.bitmap else row.size
        return Judged(row.root, size, self._shelf.uses.of(row.root).heat, why)

    async def _idle(self, *, partials: bool) -> list[Judged]:
        since = self._shelf.now_ms() - PARTIAL_IDLE_MS
        pinned = {pin.root for pin in await self._shelf.index.pins()}
        why = "on its way, and nobody fetches it" if partials else "no progress for 7 days"
        return [
            Judged(row.root, row.size, 0.0, why)
            for row in await self._shelf.index.roots()
            if row.state is State.PARTIAL
            and row.root not in self._shelf.partials
            and not self._shelf.leases.granted(row.root)
            and row.root not in pinned
            and (partials or row.use.used_ms <= since)
        ]

    async def _remove(self, gone: Sequence[Judged], epoch: float) -> list[Judged]:
        """Remove what was chosen, but for what was used or taken meanwhile."""
        done = []
        digests = []
        for one in gone:
            if self._shelf.uses.is_since(one.key, epoch):
                continue
            if isinstance(one.key, bytes):
                digests.append(one.key)
                done.append(one)
                continue
            with suppress(Conflict, NotFound):  # taken meanwhile, or gone already
                await self._shelf.remove(one.key)
                done.append(one)
        if digests:
            await self._shelf.index.drop_blocks(STRAY, digests)
            for digest in digests:
                self._shelf.uses.forget(digest)
        return done
