"""How far each fetch has come, for people: verified bytes, rate, time left, who sent how much.

Knows bytes and milliseconds handed in, and who watches. Must not know sources, disks or how it is
shown. What was verified is all that counts: bytes on their way move no bar.

Invariants: of a watcher at most one unread word a root is kept, the latest, so that an end is
never lost; ended transfers are kept for a while, at most `ENDED_MAX`.
"""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Final

import trio

from prsm.storage.cid import Cid
from prsm.storage.fetch.rates import Rate

STALLED_MS: Final = 10_000  # without a byte: said, instead of a bar that stands still
TELL_MS: Final = 250  # between two words about one transfer
STALL_TELL_MS: Final = 1_000
ENDED_MAX: Final = 32
NAMED_MAX: Final = 64  # sources told apart; the others are one row
OTHERS: Final = "others"


class State(Enum):
    """What a transfer does."""

    FETCHING = "fetching"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Transfer:
    """One fetch at one moment.

    Attributes:
        root: of the file.
        size: of the whole file, bytes.
        state: what it does.
        verified_bytes: here and right.
        resumed_bytes: of them, here before this fetch began.
        rate_bytes_per_s: of verified bytes, averaged over about a second.
        eta_ms: until it is whole at this rate; None: nobody knows.
        stalled_ms: since the last byte came, from 10 s on; below that 0.
        bytes_by_source: verified bytes of this fetch by name of source, the most first.
        wasted_bytes: that came twice, or wrong.
        sources: that may be asked now.
        reason: why it failed, a stable word; empty otherwise.
        what: the same as a sentence.
    """

    root: Cid
    size: int
    state: State
    verified_bytes: int
    resumed_bytes: int
    rate_bytes_per_s: int
    eta_ms: int | None
    stalled_ms: int
    bytes_by_source: tuple[tuple[str, int], ...]
    wasted_bytes: int
    sources: int
    reason: str
    what: str


class Meter:
    """Counts one fetch; pure.

    Args:
        root: of the file.
        size: of it, bytes.
        resumed_bytes: that are here already.
        now_ms: monotonic.
    """

    def __init__(self, root: Cid, size: int, *, resumed_bytes: int, now_ms: int) -> None:
        self.root = root
        self.sources = 0
        self.wasted_bytes = 0
        self.state = State.FETCHING
        self._size = size
        self._resumed = self._verified = resumed_bytes
        self._rate = Rate(now_ms=now_ms)
        self._moved_ms = now_ms
        self._by_source: dict[str, int] = {}
        self._reason = self._what = ""

    @property
    def bytes_by_source(self) -> dict[str, int]:
        """Verified bytes by name of source."""
        return dict(self._by_source)

    def add(self, source: str, size: int, *, now_ms: int) -> None:
        """Verified bytes are on disk."""
        if source not in self._by_source and len(self._by_source) >= NAMED_MAX:
            source = OTHERS
        self._by_source[source] = self._by_source.get(source, 0) + size
        self._verified += size
        self._moved_ms = now_ms
        self._rate.add(size, now_ms=now_ms)

    def end(self, state: State, *, reason: str = "", what: str = "") -> None:
        """It is over."""
        self.state, self._reason, self._what = state, reason, what

    def is_stalled(self, now_ms: int) -> bool:
        """Whether nothing has come for so long that people should be told."""
        return self.state is State.FETCHING and now_ms - self._moved_ms >= STALLED_MS

    def snapshot(self, now_ms: int) -> Transfer:
        """How far it has come."""
        rate = self._rate.fade(now_ms=now_ms) if self.state is State.FETCHING else 0
        left = self._size - self._verified
        is_known = rate > 0 and self.state is State.FETCHING
        rows = sorted(self._by_source.items(), key=lambda row: (-row[1], row[0]))
        return Transfer(
            root=self.root,
            size=self._size,
            state=self.state,
            verified_bytes=self._verified,
            resumed_bytes=self._resumed,
            rate_bytes_per_s=rate,
            eta_ms=left * 1000 // rate if is_known else None,
            stalled_ms=now_ms - self._moved_ms if self.is_stalled(now_ms) else 0,
            bytes_by_source=tuple(rows),
            wasted_bytes=self.wasted_bytes,
            sources=self.sources,
            reason=self._reason,
            what=self._what,
        )


class Watch:
    """What one watcher has not read yet."""

    def __init__(self) -> None:
        self._unread: OrderedDict[Cid, Transfer] = OrderedDict()
        self._arrived = trio.Event()

    def put(self, transfer: Transfer) -> None:
        """Keep the latest word about a root."""
        self._unread[transfer.root] = transfer
        self._arrived.set()

    async def next(self) -> Transfer:
        """Wait for a transfer that has changed, the one unread longest first."""
        await trio.lowlevel.checkpoint()
        while not self._unread:
            self._arrived = trio.Event()
            await self._arrived.wait()
        return self._unread.popitem(last=False)[1]


class Transfers:
    """All fetches of a node: those under way, and the last ones that ended."""

    def __init__(self) -> None:
        self._live: dict[Cid, Meter] = {}
        self._ended: OrderedDict[Cid, Transfer] = OrderedDict()
        self._watches: list[Watch] = []
        self._told_ms: dict[Cid, int] = {}

    def current(self) -> tuple[Transfer, ...]:
        """Those under way, oldest first, then those that ended, the last first."""
        now_ms = _now_ms()
        live = [meter.snapshot(now_ms) for meter in self._live.values()]
        return (*live, *reversed(self._ended.values()))

    def find(self, root: Cid) -> Transfer | None:
        """The transfer of a root, or the last one that ended; None if there is none."""
        meter = self._live.get(root)
        return self._ended.get(root) if meter is None else meter.snapshot(_now_ms())

    @contextmanager
    def watch(self) -> Iterator[Watch]:
        """Be told of changes, beginning with what is under way."""
        watch = Watch()
        for meter in self._live.values():
            watch.put(meter.snapshot(_now_ms()))
        self._watches.append(watch)
        try:
            yield watch
        finally:
            self._watches.remove(watch)

    def begin(self, meter: Meter) -> None:
        """A fetch began; of a root there is one at a time."""
        assert meter.root not in self._live, meter.root
        self._live[meter.root] = meter
        self._ended.pop(meter.root, None)
        self._tell(meter, _now_ms())

    def moved(self, meter: Meter) -> None:
        """Something came, or time passed: watchers are told, if it is time to."""
        now_ms = _now_ms()
        pause_ms = STALL_TELL_MS if meter.is_stalled(now_ms) else TELL_MS
        if now_ms - self._told_ms[meter.root] >= pause_ms:
            self._tell(meter, now_ms)

    def end(self, meter: Meter) -> None:
        """A fetch ended as its meter says; watchers are told at once."""
        now_ms = _now_ms()
        del self._live[meter.root]
        del self._told_ms[meter.root]
        last = meter.snapshot(now_ms)
        self._ended[meter.root] = last
        while len(self._ended) > ENDED_MAX:
            self._ended.popitem(last=False)
        for watch in self._watches:
            watch.put(last)

    def _tell(self, meter: Meter, now_ms: int) -> None:
        self._told_ms[meter.root] = now_ms
        for watch in self._watches:
            watch.put(meter.snapshot(now_ms))


def _now_ms() -> int:
    return int(trio.current_time() * 1000)
