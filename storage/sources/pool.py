"""All sources of blocks of one node: whom to ask first, whom not now, and how each of them does.

Knows sources, their health, and the clock handed in. Must not know transports. What it hands out
measures every call and refuses those its breaker forbids; the caller's own faults count for
nobody. Source: docs/spec/storage.md, "Pool".
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from random import Random
from typing import Final, TypeVar

import msgspec
import trio

from prsm.protocol.errors import LocalError, RemoteError
from prsm.protocol.jsontext import UNREADABLE
from prsm.protocol.messages.models import Have
from prsm.storage.cid import Cid
from prsm.storage.errors import NotFound, SourceDown, SourceFailed, SourceSlow, SourceUnfit
from prsm.storage.interfaces import (
    TIER_BITSWAP,
    TIER_DAEMON,
    TIER_GATEWAY,
    TIER_PEER,
    Leaf,
    Source,
    Traits,
    traits_of,
)
from prsm.storage.sources.health import Health, SavedHealth, State
from prsm.storage.wholefile import refused, replace_file

SILENT_MS: Final = 5_000  # a call given up after so long was the source's fault
SOURCES_MAX: Final = 256
SAVE_EVERY_S: Final = 60.0
FILE_BYTES_MAX: Final = 1 << 20

_T = TypeVar("_T")


class Tier(IntEnum):
    """Classes of sources in the order they are tried."""

    PEER = TIER_PEER
    BITSWAP = TIER_BITSWAP
    DAEMON = TIER_DAEMON
    GATEWAY = TIER_GATEWAY


@dataclass(frozen=True, slots=True)
class SourceRow:
    """What people may know of a source.

    Attributes:
        name: a peer id, or a URL without credentials.
        tier: its class.
        state: what it may be asked now.
        latency_ms: moving average of small answers; 0: unknown.
        rate_bps: moving average of bytes a second; 0: unknown.
        bytes: it gave since the node started.
        faults: of it since the node started.
        last_error: one sentence; empty if there was none.
        next_try_ms: from now; 0: it may be asked.
    """

    name: str
    tier: Tier
    state: State
    latency_ms: int
    rate_bps: int
    bytes: int
    faults: int
    last_error: str
    next_try_ms: int


class Measured:
    """A source as the pool hands it out; a `Source` itself.

    Args:
        source: who is asked.
        health: is told.
        now_ms: monotonic.
    """

    def __init__(self, source: Source, health: Health, now_ms: Callable[[], int]) -> None:
        self._source = source
        self._health = health
        self._now_ms = now_ms

    @property
    def name(self) -> str:
        """Of the source."""
        return self._source.name

    @property
    def traits(self) -> Traits:
        """Of the source."""
        return traits_of(self._source)

    async def have(self, root: Cid) -> Have | None:
        """As the source."""
        return await self._call(lambda: self._source.have(root), lambda _have: 0)

    async def node(self, digest: bytes) -> bytes:
        """As the source."""
        return await self._call(lambda: self._source.node(digest), len)

    async def fetch(self, root: Cid, wanted: Sequence[Leaf]) -> Sequence[bytes]:
        """As the source."""
        return await self._call(
            lambda: self._source.fetch(root, wanted), lambda blocks: sum(map(len, blocks))
        )

    async def _call(self, call: Callable[[], Awaitable[_T]], size_of: Callable[[_T], int]) -> _T:
        health, began_ms = self._health, self._now_ms()
        if not health.begin(now_ms=began_ms):
            await trio.lowlevel.checkpoint()
            wait_ms = health.wait_ms(now_ms=began_ms)
            raise SourceDown(f"{self.name} failed, and is asked again in {wait_ms} ms")
        try:
            answer = await call()
        except NotFound:
            health.answered(took_ms=self._now_ms() - began_ms, size=0)
            raise
        except (SourceFailed, RemoteError) as error:
            self._failed(error)
            raise
        except trio.Cancelled:
            silent_ms = self._now_ms() - began_ms
            if silent_ms >= SILENT_MS:
                health.failed(f"no answer in {silent_ms} ms", now_ms=self._now_ms())
            health.abandoned()
            raise
        except BaseException:
            health.abandoned()
            raise
        health.answered(took_ms=self._now_ms() - began_ms, size=size_of(answer))
        return answer

    def _failed(self, error: SourceFailed | RemoteError) -> None:
        if isinstance(error, SourceSlow) and error.retry_after_ms:
            self._health.abandoned()  # busy is no fault
            return
        unfit = isinstance(error, SourceUnfit)
        self._health.failed(error.what, now_ms=self._now_ms(), is_unfit=unfit)


class Pool:
    """The sources of one node.

    Args:
        now_ms: monotonic.
        dice: spreads tries of dead sources over time.
        saved: what an earlier run knew; for sources added later.
    """

    def __init__(
        self, now_ms: Callable[[], int], dice: Random, *, saved: Iterable[SavedHealth] = ()
    ) -> None:
        self._now_ms = now_ms
        self._dice = dice
        self._saved = {each.name: each for each in saved}
        self._members: dict[str, tuple[Tier, Measured, Health]] = {}

    def add(self, source: Source, tier: Tier) -> Source:
        """Take a source in; returns the one to be asked. One of the same name is replaced."""
        health = self._members[source.name][2] if source.name in self._members else None
        if health is None:
            health = Health(self._dice)
            if (saved := self._saved.pop(source.name, None)) is not None:
                health.load(saved, now_ms=self._now_ms())
        measured = Measured(source, health, self._now_ms)
        self._members[source.name] = (tier, measured, health)
        if len(self._members) > SOURCES_MAX:
            del self._members[next(iter(self._members))]
        return measured

    def remove(self, name: str) -> None:
        """Forget a source; its health is kept for when it comes back."""
        found = self._members.pop(name, None)
        if found is None:
            return
        self._saved[name] = found[2].save(name, now_ms=self._now_ms())
        if len(self._saved) > SOURCES_MAX:
            del self._saved[next(iter(self._saved))]

    def blame(self, name: str, error: SourceFailed | RemoteError) -> None:
        """Count a fault that only its user could see: a wrong hash, a deadline."""
        if name in self._members:
            self._members[name][2].failed(error.what, now_ms=self._now_ms())

    def choose(self) -> Sequence[Source]:
        """Whom to ask, best first: tier by tier, in each by the time the next run would take.

        Those whose breaker is open are left out until their probe is due, and then come last of
        their tier.
        """
        now_ms = self._now_ms()
        ready = [
            (tier, health.state is not State.OK, health.expected_ms(now_ms=now_ms), name)
            for name, (tier, _, health) in self._members.items()
            if not health.wait_ms(now_ms=now_ms)
        ]
        return [self._members[name][1] for *_, name in sorted(ready)]

    def rows(self) -> Sequence[SourceRow]:
        """All sources, tier by tier, in order of their names."""
        now_ms = self._now_ms()
        rows = [
            SourceRow(
                name,
                tier,
                health.state,
                health.latency_ms,
                health.rate_bps,
                health.bytes,
                health.faults,
                health.last_error,
                health.wait_ms(now_ms=now_ms),
            )
            for name, (tier, _, health) in self._members.items()
        ]
        return sorted(rows, key=lambda row: (row.tier, row.name))

    def saved(self) -> Sequence[SavedHealth]:
        """What should outlive this run."""
        now_ms = self._now_ms()
        live = (each[2].save(name, now_ms=now_ms) for name, each in self._members.items())
        return [*live, *self._saved.values()][:SOURCES_MAX]

    async def run(
        self, path: Path, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Write what should outlive this run, once a minute and at the end, if it has changed.

        A disk that refuses is no fault of a source: then it is forgotten, and learnt again.
        """
        written = list(load_health(path))
        task_status.started()
        try:
            while True:
                await trio.sleep(SAVE_EVERY_S)
                written = await self._save(path, written)
        finally:
            with trio.move_on_after(1, shield=True):
                await self._save(path, written)

    async def _save(self, path: Path, written: list[SavedHealth]) -> list[SavedHealth]:
        saved = list(self.saved())
        if saved != written:
            with suppress(LocalError):
                await trio.to_thread.run_sync(save_health, path, saved)
        return saved


def save_health(path: Path, saved: Sequence[SavedHealth]) -> None:
    """Write what is known of sources, whole or not at all.

    Raises:
        Full, StoreUnavailable: the disk refused.
    """
    replace_file(path, msgspec.json.encode(list(saved)))


def load_health(path: Path) -> Sequence[SavedHealth]:
    """Read what an earlier run wrote; a missing or damaged file is no knowledge, and no error.

    Raises:
        StoreUnavailable: the disk refused.
    """
    if not path.exists():
        return ()
    with refused(path), path.open("rb") as file:
        raw = file.read(FILE_BYTES_MAX)
    try:
        return msgspec.json.decode(raw, type=list[SavedHealth])[:SOURCES_MAX]
    except UNREADABLE:
        return ()
