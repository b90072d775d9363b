"""Who uses a file now, so that nobody removes it meanwhile.

Knows: holders, purposes, expiry. Must not know: files, rows.

Leases live in memory: the lock file of the index gives a store to one process, so whatever that
process had leased is void when it has crashed, and opening a model writes nothing. Each says the
boot it belongs to all the same, for those who hold its number across a restart.

Invariant: a root is leased, or claimed by one who removes it, never both. All decisions here are
made without a checkpoint between look and act.
"""

import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from itertools import count
from typing import Final

import trio

from prsm.storage.cid import Cid
from prsm.storage.errors import Conflict, NotFound

LEASE_MS: Final = 120_000
RENEW_MS: Final = 30_000
GRANTED_MAX: Final = 4096  # leases by number, of callers who may forget them

assert 2 * RENEW_MS < LEASE_MS


@dataclass(frozen=True, slots=True)
class Lease:
    """Somebody's use of a file.

    Attributes:
        number: names it to `renew` and `release`.
        root: the file.
        holder: who, for people.
        boot: of the store's process; a lease of another one is void.
        purpose: what for, one word.
        expires_ms: wall time; 0: held by a task of this process until that task is done.
    """

    number: int
    root: Cid
    holder: str
    boot: str
    purpose: str
    expires_ms: int


class Leases:
    """The leases of one store."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        """Begin a boot with no leases.

        Args:
            now_ms: wall time.
        """
        self._now_ms = now_ms
        self._boot = secrets.token_hex(8)
        self._numbers = count(1)
        self._leases: dict[int, Lease] = {}
        self._claims: dict[Cid, trio.Event] = {}

    def granted(self, root: Cid | None = None) -> Sequence[Lease]:
        """Return the leases in force, of one root or of all."""
        now = self._now_ms()
        for number in [one.number for one in self._leases.values() if 0 < one.expires_ms <= now]:
            del self._leases[number]
        return [one for one in self._leases.values() if root in {None, one.root}]

    def grant(self, root: Cid, *, holder: str, purpose: str) -> Lease:
        """Lease a root for 120 s to a holder who renews it; checks nothing about the file.

        Raises:
            Conflict: it is being removed, or too many leases are out.
        """
        if len(self._leases) >= GRANTED_MAX and len(self.granted()) >= GRANTED_MAX:
            raise Conflict(f"{GRANTED_MAX} leases are out, no more are given")
        return self._add(root, holder, purpose, self._now_ms() + LEASE_MS)

    def renew(self, number: int) -> Lease:
        """Make a lease last 120 s from now.

        Raises:
            NotFound: it ran out, or was of an earlier boot.
        """
        if not any(one.number == number for one in self.granted()):
            raise NotFound(f"no lease {number}: it ran out", hint="lease the file again")
        lease = self._leases[number]
        if lease.expires_ms:
            lease = replace(lease, expires_ms=self._now_ms() + LEASE_MS)
            self._leases[number] = lease
        return lease

    def release(self, number: int) -> None:
        """Give a lease back; one that ran out is none."""
        self._leases.pop(number, None)

    @asynccontextmanager
    async def hold(self, root: Cid, *, holder: str, purpose: str) -> AsyncIterator[Lease]:
        """Lease a root for as long as the block runs; waits while it is being removed."""
        while (claim := self._claims.get(root)) is not None:
            await claim.wait()
        lease = self._add(root, holder, purpose, 0)
        try:
            yield lease
        finally:
            self.release(lease.number)

    @contextmanager
    def claim(self, root: Cid) -> Iterator[None]:
        """Keep everybody off a root while it is removed.

        Raises:
            Conflict: it is leased, or somebody else removes it.
        """
        if root in self._claims:
            raise Conflict(f"{root} is being removed")
        if leases := self.granted(root):
            first = leases[0]
            raise Conflict(
                f"{root} is in use: {first.holder or 'somebody'}, {first.purpose}"
                f"{f', and {len(leases) - 1} more' if len(leases) > 1 else ''}",
                hint="wait until it is done",
            )
        self._claims[root] = trio.Event()
        try:
            yield
        finally:
            self._claims.pop(root).set()

    def _add(self, root: Cid, holder: str, purpose: str, expires_ms: int) -> Lease:
        if root in self._claims:
            raise Conflict(f"{root} is being removed", hint="fetch it again")
        lease = Lease(next(self._numbers), root, holder, self._boot, purpose, expires_ms)
        self._leases[lease.number] = lease
        return lease
