"""Penalties, bans and token buckets of peers: pure, bounded, in integer milliseconds.

Knows points and times handed in. Must not know streams, addresses or clocks. libp2p's own
peer score and resource manager stay out of the defence: these numbers are the defence.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from prsm.protocol.ids import PeerId

BAN_POINTS: Final = 100
POINT_FADES_MS: Final = 6_000  # one point every 6 s: a ban's worth in ten minutes
BAN_FIRST_MS: Final = 60_000
BAN_LONGEST_MS: Final = 24 * 3600_000
PEERS_REMEMBERED_MAX: Final = 4096
# Pull repair asks three peers every four seconds when nothing happens, six a second otherwise.
SERVED_MS: Final = 20_000


@dataclass(slots=True)
class _Record:
    points: int = 0
    points_at_ms: int = 0
    bans: int = 0
    banned_until_ms: int = 0


class Scores:
    """The faults of every peer, fading with time; bans double and are remembered."""

    def __init__(self) -> None:
        self._records: dict[PeerId, _Record] = {}

    def penalise(self, peer: PeerId, points: int, *, now_ms: int) -> int:
        """Count a fault.

        Args:
            peer: who did it.
            points: its weight; 100 ban at once.
            now_ms: monotonic.

        Returns:
            Milliseconds the peer is banned for from now on; 0 when it is not.
        """
        if points <= 0:
            return self.banned_ms(peer, now_ms=now_ms)
        record = self._record(peer, now_ms)
        record.points = self._faded(record, now_ms) + points
        record.points_at_ms = now_ms
        if record.points >= BAN_POINTS and record.banned_until_ms <= now_ms:
            length = min(BAN_FIRST_MS << min(record.bans, 16), BAN_LONGEST_MS)
            record.bans += 1
            record.points = 0
            record.banned_until_ms = now_ms + length
        return max(0, record.banned_until_ms - now_ms)

    def banned_ms(self, peer: PeerId, *, now_ms: int) -> int:
        """Milliseconds until the peer's ban ends; 0 when it has none."""
        record = self._records.get(peer)
        return max(0, record.banned_until_ms - now_ms) if record else 0

    def points(self, peer: PeerId, *, now_ms: int) -> int:
        """Points the peer has now, after fading."""
        record = self._records.get(peer)
        return self._faded(record, now_ms) if record else 0

    def ban(self, peer: PeerId, length_ms: int, *, now_ms: int) -> None:
        """Ban a peer because somebody says so; how often its faults banned it stays."""
        self._record(peer, now_ms).banned_until_ms = now_ms + length_ms

    def restore(self, peer: PeerId, *, times: int, left_ms: int, now_ms: int) -> None:
        """Take up what an earlier run knew of a peer.

        Args:
            peer: who.
            times: how often its faults banned it.
            left_ms: of its ban; 0 when it has ended.
            now_ms: monotonic.
        """
        record = self._record(peer, now_ms)
        record.bans, record.banned_until_ms = times, now_ms + left_ms

    def pardon(self, peer: PeerId) -> None:
        """Forget everything a peer did."""
        self._records.pop(peer, None)

    def times(self, peer: PeerId) -> int:
        """How often the peer's faults have banned it."""
        record = self._records.get(peer)
        return record.bans if record else 0

    def _record(self, peer: PeerId, now_ms: int) -> _Record:
        record = self._records.get(peer)
        if record is None:
            if len(self._records) >= PEERS_REMEMBERED_MAX:
                self._forget(now_ms)
            record = self._records[peer] = _Record(points_at_ms=now_ms)
        return record

    def _forget(self, now_ms: int) -> None:
        # The mildest goes first: ended bans before running ones, few points before many.
        mildest = min(
            self._records,
            key=lambda peer: (
                max(0, self._records[peer].banned_until_ms - now_ms),
                self._records[peer].bans,
                self._faded(self._records[peer], now_ms),
            ),
        )
        del self._records[mildest]

    @staticmethod
    def _faded(record: _Record, now_ms: int) -> int:
        return max(0, record.points - (now_ms - record.points_at_ms) // POINT_FADES_MS)


class Service:
    """Who did something for this node lately: delivered a record first, answered a call.

    The gossip mesh prefers them: faults say nothing of a peer that is merely silent.
    """

    def __init__(self) -> None:
        self._served: OrderedDict[PeerId, int] = OrderedDict()

    def note(self, peer: PeerId, *, now_ms: int) -> None:
        """Count what a peer did for us."""
        self._served[peer] = now_ms
        self._served.move_to_end(peer)
        if len(self._served) > PEERS_REMEMBERED_MAX:
            self._served.popitem(last=False)

    def worth(self, peer: PeerId, *, now_ms: int) -> int:
        """1 for a peer that served us within `SERVED_MS`, else 0: more earns nothing more."""
        served_ms = self._served.get(peer)
        return int(served_ms is not None and now_ms - served_ms <= SERVED_MS)


class TokenBucket:
    """Lets `rate_per_s` things a second pass on average, and `burst` at once.

    Args:
        rate_per_s: tokens that return each second.
        burst: tokens it holds at most, and at first.
        now_ms: monotonic.
    """

    def __init__(self, *, rate_per_s: int, burst: int, now_ms: int) -> None:
        self._rate_per_s = rate_per_s
        self._burst_milli = burst * 1000
        self._milli = self._burst_milli
        self._at_ms = now_ms

    def has(self, count: int = 1, *, now_ms: int) -> bool:
        """Whether there are so many tokens."""
        grown = self._milli + (now_ms - self._at_ms) * self._rate_per_s
        self._milli = min(self._burst_milli, grown)
        self._at_ms = now_ms
        return self._milli >= 1000 * count

    def take(self, count: int = 1, *, now_ms: int) -> bool:
        """Take tokens; False, and none taken, when there are not so many."""
        if not self.has(count, now_ms=now_ms):
            return False
        self._milli -= 1000 * count
        return True


class TokenBuckets:
    """A bucket for each peer; it outlives the peer's link.

    Args:
        rate_per_s: of each.
        burst: of each.
        peers_max: the one used longest ago is forgotten beyond them.
    """

    def __init__(self, *, rate_per_s: int, burst: int, peers_max: int) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._peers_max = peers_max
        self._buckets: OrderedDict[PeerId, TokenBucket] = OrderedDict()

    def take(self, peer: PeerId, *, now_ms: int) -> bool:
        """Take a token of a peer; False when it has none."""
        bucket = self._buckets.pop(peer, None) or TokenBucket(
            rate_per_s=self._rate_per_s, burst=self._burst, now_ms=now_ms
        )
        self._buckets[peer] = bucket
        if len(self._buckets) > self._peers_max:
            self._buckets.popitem(last=False)
        return bucket.take(now_ms=now_ms)
