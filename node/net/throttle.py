"""What the operator lets blocks of models take: all together and each peer, out and in.

Knows limits and bytes; waits by trio's clock. Must not know streams or messages. Agreement, tensors
and blocks of the chain never come here; what they may take together with storage is `lanes`' limit.

Invariant: within any t seconds at most `limit * t` bytes, a fortieth of a second's more, and one
slice pass.
"""

from collections import OrderedDict
from collections.abc import Callable
from enum import Enum
from typing import Final

import trio

from prsm.node.net.budgets import Bucket, Rate, StorageLimits
from prsm.protocol.ids import PeerId

BURST_SHARE: Final = 40  # of a second; an oversleep of 25 ms is made up for, more is not
PEERS_MAX: Final = 1024  # whose buckets are kept


class Way(Enum):
    """A direction."""

    OUT = "out"
    IN = "in"


class Throttle:
    """Holds slices of blocks back.

    Args:
        limits: of the operator.
        now_ms: monotonic.
    """

    def __init__(self, limits: StorageLimits, *, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._each = {Way.OUT: limits.peer_upload, Way.IN: limits.peer_download}
        self._all = {
            Way.OUT: _bucket(limits.upload, now_ms()),
            Way.IN: _bucket(limits.download, now_ms()),
        }
        self._peers: OrderedDict[tuple[PeerId, Way], Bucket] = OrderedDict()

    async def wait(self, way: Way, peer: PeerId, size: int) -> None:
        """Wait until a slice may leave, or until the one that came may be followed by another."""
        now_ms = self._now_ms()
        buckets = (self._all[way], self._bucket_of(peer, way, now_ms))
        wait_ms = max(
            (bucket.charge(size, now_ms=now_ms) for bucket in buckets if bucket is not None),
            default=0,
        )
        if wait_ms:
            await trio.sleep(wait_ms / 1000)

    def _bucket_of(self, peer: PeerId, way: Way, now_ms: int) -> Bucket | None:
        if not self._each[way]:
            return None
        bucket = self._peers.pop((peer, way), None) or _bucket(self._each[way], now_ms)
        assert bucket is not None
        self._peers[peer, way] = bucket
        if len(self._peers) > PEERS_MAX:
            self._peers.popitem(last=False)
        return bucket


def _bucket(limit: int, now_ms: int) -> Bucket | None:
    return Bucket(Rate(limit, limit // BURST_SHARE), now_ms=now_ms) if limit else None
