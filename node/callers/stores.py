"""Models that tenants store: claimed within a quota before they come, given back if they do not.

Knows: claims, bytes. Must not know: what is called, how a model comes here.

Invariants: what a tenant claims is never above its quota, however many calls come at once; a claim
is given back only by the last call that stores that model for that tenant, where all of them were
refused and nothing brings it here.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import trio

from prsm.node.callers.belongings import Kind
from prsm.node.clock import Clock
from prsm.node.rpc.errors import only_leaf
from prsm.node.rpc.reasons import UNCLEAR
from prsm.protocol.errors import LocalError, PrsmError
from prsm.storage.tenancy import Claim, Tenancy, TenantRow

OPERATOR: Final = ""  # the tenant of what was here before any


class QuotaPassed(LocalError):
    """A tenant has no room for more work or more bytes."""

    reason = "quota_passed"


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A model as storage counts it."""

    cid: str
    size_bytes: int
    is_held: bool


@dataclass(slots=True)
class _Storing:
    """Calls at work that store one model for one tenant, and what became of them."""

    calls: int = 0
    is_new: bool = False  # one of them made the claim
    is_used: bool = False  # one of them needs it, or may


class Stores:
    """Claims models for the calls that store them.

    Args:
        tenancy: where claims are kept.
        clock: of the node.
        is_fetched: whether a task brings that CID here.
        remember: told of each claim that was made.
        release: ends one.
    """

    def __init__(
        self,
        tenancy: Tenancy,
        clock: Clock,
        is_fetched: Callable[[str], bool],
        remember: Callable[[str, Kind, str], None],
        release: Callable[[str, Kind, str], Awaitable[None]],
    ) -> None:
        self._tenancy, self._clock, self._is_fetched = tenancy, clock, is_fetched
        self._remember, self._release = remember, release
        self._storing: dict[tuple[str, str], _Storing] = {}

    @asynccontextmanager
    async def claimed(self, row: TenantRow, ref: str, found: StoredObject) -> AsyncIterator[None]:
        """Hold a claim while a call stores a model, and after it, unless it was for nothing.

        Raises:
            QuotaPassed: its bytes do not fit.
        """
        key = (row.name, found.cid)
        storing = self._storing.setdefault(key, _Storing())
        storing.calls += 1
        try:
            if await self._claim(row, ref, found):
                storing.is_new = True
            yield
            storing.is_used = True
        except BaseException as error:
            # What was cut off may go on, and so does what another call began.
            storing.is_used |= _is_unclear(error) or self._is_fetched(found.cid)
            if storing.calls == 1 and storing.is_new and not storing.is_used:
                with trio.CancelScope(shield=True):  # bounded: one write to a local file
                    await self._release(row.name, Kind.OBJECT, found.cid)
            raise
        finally:
            storing.calls -= 1
            if not storing.calls:
                del self._storing[key]

    async def _claim(self, row: TenantRow, ref: str, found: StoredObject) -> bool:
        """Claim a model if its bytes fit; whether it was not claimed before."""
        size, now_ms = found.size_bytes, self._clock.wall_ms()
        is_new, used = await self._tenancy.claim_within(
            Claim(Kind.OBJECT, found.cid, row.name, size, now_ms),
            row.storage_bytes_max,
            before=OPERATOR if found.is_held else None,
        )
        if not is_new:
            return False
        if used + size > row.storage_bytes_max:
            raise QuotaPassed(
                f"{ref} has {size} bytes, tenant {row.name!r} stores {used} of "
                f"{row.storage_bytes_max}",
                hint="give one up with: prsm model rm REF",
            )
        for owner in await self._tenancy.owners(Kind.OBJECT, found.cid):
            self._remember(owner, Kind.OBJECT, found.cid)
        return True


def _is_unclear(error: BaseException) -> bool:
    """Did a call end so that what it began may go on?"""
    leaf = only_leaf(error)
    return not isinstance(leaf, PrsmError) or leaf.reason in UNCLEAR
