"""Fetching files from many sources at once: one fetch of a root, shared by all who want it.

Knows callers, sessions, the store. Must not know transports, or what to ask next (`wants`).
Source: docs/spec/storage.md, "Exchange".
"""

import copy
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

import trio

from prsm.protocol.errors import PrsmError
from prsm.storage.cid import Cid
from prsm.storage.errors import FetchCancelled, Offline, SourceCorrupt
from prsm.storage.fetch.asking import block_of
from prsm.storage.fetch.faults import Fault, FaultHandler, Faults, verdict
from prsm.storage.fetch.fetching import Around, Fetch
from prsm.storage.fetch.transfers import Meter, State, Transfers
from prsm.storage.interfaces import FileStore, Landing, Source

_L = TypeVar("_L", bound=Landing)


class Urgency(Enum):
    """Who waits for a fetch."""

    FOREGROUND = "foreground"  # a person, or a job
    REPAIR = "repair"  # nobody: one ask at a time while anybody else waits


@dataclass(slots=True)
class Fetched:
    """What a fetch took: verified bytes by source, bytes that came in vain, and who failed."""

    root: Cid
    size: int
    bytes_by_source: dict[str, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    wasted_bytes: int = 0


@dataclass(slots=True)
class _Flight:
    """A fetch under way, and how it ended; None while it goes on, or when its caller went away."""

    fetch: Fetch
    urgency: Urgency
    done: trio.Event = field(default_factory=trio.Event)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    outcome: Fetched | PrsmError | None = None


class Exchange:
    """Brings files into one store.

    Args:
        store: where files go.
        on_fault: told of every dropped source, so that a corrupt peer can be banned.
        transfers: told of progress; its own when absent.
    """

    def __init__(
        self,
        store: FileStore[_L],
        *,
        on_fault: FaultHandler | None = None,
        transfers: Transfers | None = None,
    ) -> None:
        self.transfers = transfers or Transfers()
        self.is_offline = False  # nobody is asked; what is not here whole is `Offline`
        self._has = store.has
        self._landing = _landings(store)
        self._on_fault = on_fault
        self._flights: dict[Cid, _Flight] = {}
        self._turns: dict[str, trio.Lock] = {}  # by source, while anything is fetched

    async def fetch_block(self, digest: bytes, sources: Sequence[Source]) -> bytes:
        """Return one block, asked of one source after the other and checked; it is not stored.

        Raises:
            NotFound: every source says it does not hold it, or there is none.
            SourceSlow, SourceCorrupt, SourceFailed: else, the worst that happened.
            Offline: nobody may be asked.
        """
        what = f"block {digest.hex()[:16]}"
        if self.is_offline:
            raise Offline(f"{what} is not here, and this node asks nobody")
        faults = Faults(self._tell_fault)
        raw = await block_of(sources, digest, faults)
        if raw is None:
            raise verdict(what, faults.told)
        return raw

    async def fetch(
        self,
        root: Cid,
        size: int,
        sources: Sequence[Source],
        *,
        urgency: Urgency = Urgency.FOREGROUND,
    ) -> Fetched:
        """Bring a file here; callers of the same root share one fetch and all their sources.

        Cancelled or failed, what has been verified stays and a later call goes on from there; when
        the caller that began is cancelled, another one that waits goes on at once. Without a
        deadline of the caller it takes 30 s + size / 256 KiB/s at most.

        Args:
            root: of the file.
            size: its bytes, as the manifest says.
            sources: whom to ask, each of another name; more may `join`.
            urgency: who waits for it.

        Raises:
            NotFound: every source says it does not hold it, or there is none.
            SourceSlow: some source gave no answer in time, and no other had the rest.
            SourceCorrupt: a source sent wrong bytes, and no other had the rest.
            SourceFailed: sources failed otherwise.
            Offline: nobody may be asked.
            FetchCancelled: somebody called `cancel`.
            BadDag: the root is no file of this size: its publisher's fault.
            Full, StoreUnavailable: our disk or quota.
        """
        while True:
            if await self._has(root):
                return Fetched(root, size)
            if self.is_offline:
                raise Offline(
                    f"{root} of {size} bytes is not here whole, and this node asks nobody",
                    hint="go online, or copy it here: prsm storage import",
                )
            flight = self._flights.get(root)
            if flight is None:
                return await self._fly(root, size, sources, urgency)
            for source in sources:
                flight.fetch.join(source)
            if urgency is Urgency.FOREGROUND:
                flight.urgency = urgency
            await flight.done.wait()
            if isinstance(flight.outcome, Fetched):
                return flight.outcome
            if flight.outcome is not None:
                raise copy.copy(flight.outcome)

    def join(self, source: Source, roots: Collection[Cid] | None = None) -> None:
        """A source was found: fetches under way ask it too.

        Args:
            source: a peer that connected, say.
            roots: of which files; all when absent.
        """
        for root, flight in self._flights.items():
            if roots is None or root in roots:
                flight.fetch.join(source)

    def cancel(self, root: Cid) -> bool:
        """End a fetch for all who wait for it, as `FetchCancelled`; False if there is none."""
        flight = self._flights.get(root)
        if flight is not None:
            flight.scope.cancel()
        return flight is not None

    async def _fly(
        self, root: Cid, size: int, sources: Sequence[Source], urgency: Urgency
    ) -> Fetched:
        names = [source.name for source in sources]
        assert len(set(names)) == len(names), "two sources of one name"
        around = Around(self.transfers, lambda: self._is_yielding(flight), self._turn_of)
        flight = _Flight(Fetch(root, size, Faults(self._tell_fault), around), urgency)
        self._flights[root] = flight
        try:
            for source in sources:
                flight.fetch.join(source)
            with flight.scope:
                flight.outcome = await self._bring(flight.fetch, size)
            if flight.outcome is None:
                flight.outcome = FetchCancelled(f"the fetch of {root} was ended")
        except PrsmError as error:
            flight.outcome = error
            raise
        finally:
            del self._flights[root]
            if not self._flights:
                self._turns.clear()
            flight.done.set()
        if isinstance(flight.outcome, PrsmError):
            raise flight.outcome
        return flight.outcome

    async def _bring(self, fetch: Fetch, size: int) -> Fetched:
        meter: Meter | None = None
        try:
            async with self._landing(fetch.root, size) as partial:
                now_ms = int(trio.current_time() * 1000)
                resumed = partial.verified_bytes
                meter = Meter(fetch.root, size, resumed_bytes=resumed, now_ms=now_ms)
                self.transfers.begin(meter)
                await fetch.run(partial, meter)
            meter.end(State.DONE)
        except PrsmError as error:
            if meter is not None:
                meter.end(State.FAILED, reason=error.reason, what=error.what)
            raise
        finally:
            if meter is not None:
                if meter.state is State.FETCHING:
                    meter.end(State.CANCELLED)
                self.transfers.end(meter)
        faults = fetch.faults.told
        return Fetched(fetch.root, size, meter.bytes_by_source, faults, meter.wasted_bytes)

    def _tell_fault(self, name: str, error: PrsmError) -> None:
        """Report a dropped source, once; who sent wrong bytes is dropped by every fetch."""
        if self._on_fault is not None:
            self._on_fault(name, error)
        if isinstance(error, SourceCorrupt):
            for flight in self._flights.values():
                flight.fetch.expel(name, error)

    def _turn_of(self, name: str) -> trio.Lock:
        return self._turns.setdefault(name, trio.Lock())

    def _is_yielding(self, flight: _Flight) -> bool:
        if flight.urgency is Urgency.FOREGROUND:
            return False
        return any(other.urgency is Urgency.FOREGROUND for other in self._flights.values())


def _landings(
    store: FileStore[_L],
) -> Callable[[Cid, int], AbstractAsyncContextManager[Landing]]:
    @asynccontextmanager
    async def land(root: Cid, size: int) -> AsyncIterator[Landing]:
        partial = await store.begin_fetch(root, size)
        try:
            yield partial
        finally:
            await store.end_fetch(partial)  # noqa: ASYNC102 - shields itself

    return land
