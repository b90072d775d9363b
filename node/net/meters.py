"""How much gossip a peer may send in a second: pure token buckets, one set for each peer.

Knows counts and times handed in. Must not know messages, topics or libp2p. A node accepts, and so
passes on, less in all than it takes of one peer: an honest peer cannot be made to exceed what its
neighbours allow by whoever floods it, so that what exceeds it is the sender's own fault.
"""

from dataclasses import dataclass
from typing import Final

from prsm.node.net.scores import TokenBucket
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import MIB

# A whole network is asked to stay at 10 records a second; each peer forwards all of them.
ACCEPTED_PER_S: Final = 100
ACCEPTED_BURST: Final = 400
MESSAGES_PER_S: Final = 2 * ACCEPTED_PER_S
MESSAGES_BURST: Final = 2 * ACCEPTED_BURST
AUTHORED_PER_S: Final = 50  # of one signer, whoever forwards it
AUTHORED_BURST: Final = 200
BYTES_PER_S: Final = 4 * MIB
BYTES_BURST: Final = 16 * MIB
# Ids told (IHAVE), asked for (IWANT: each may cost us a record of 64 KiB), changes of the mesh.
TOLD_PER_S: Final = 1_000
TOLD_BURST: Final = 10_000
ASKED_PER_S: Final = 50
ASKED_BURST: Final = 400
CHANGES_PER_S: Final = 10
CHANGES_BURST: Final = 100  # each starts tasks in stock code

# In one envelope. What others send: at most 5,000 ids told, a few changes.
MESSAGES_MAX: Final = 512  # an honest answer holds all that was asked for
TOLD_MAX: Final = 5_000
ASKED_MAX: Final = 1_024
CHANGES_MAX: Final = 64

assert ASKED_BURST < MESSAGES_MAX < MESSAGES_BURST
assert CHANGES_MAX < CHANGES_BURST
assert TOLD_MAX < TOLD_BURST

PEERS_METERED_MAX: Final = 1024
AUTHORS_METERED_MAX: Final = 4096


@dataclass(frozen=True, slots=True)
class Counts:
    """What one envelope holds: messages, ids told, ids asked for, changes, bytes of it all."""

    messages: int = 0
    told: int = 0
    asked: int = 0
    changes: int = 0
    size: int = 0

    @property
    def excess(self) -> str:
        """Which bound of one envelope it breaks; empty when none."""
        for name, found, most in (
            ("messages", self.messages, MESSAGES_MAX),
            ("ids told", self.told, TOLD_MAX),
            ("ids asked for", self.asked, ASKED_MAX),
            ("changes", self.changes, CHANGES_MAX),
        ):
            if found > most:
                return f"{found} {name} in one envelope, at most {most}"
        return ""


class _Peer:
    def __init__(self, now_ms: int) -> None:
        self.messages = TokenBucket(rate_per_s=MESSAGES_PER_S, burst=MESSAGES_BURST, now_ms=now_ms)
        self.told = TokenBucket(rate_per_s=TOLD_PER_S, burst=TOLD_BURST, now_ms=now_ms)
        self.asked = TokenBucket(rate_per_s=ASKED_PER_S, burst=ASKED_BURST, now_ms=now_ms)
        self.changes = TokenBucket(rate_per_s=CHANGES_PER_S, burst=CHANGES_BURST, now_ms=now_ms)
        self.bytes = TokenBucket(rate_per_s=BYTES_PER_S, burst=BYTES_BURST, now_ms=now_ms)


class GossipMeter:
    """All gossip that reaches one node.

    Args:
        now_ms: monotonic.
    """

    def __init__(self, *, now_ms: int) -> None:
        self._accepted = TokenBucket(rate_per_s=ACCEPTED_PER_S, burst=ACCEPTED_BURST, now_ms=now_ms)
        self._peers: dict[PeerId, _Peer] = {}
        self._authors: dict[bytes, TokenBucket] = {}

    def envelope(self, peer: PeerId, counts: Counts, *, now_ms: int) -> str:
        """Count what a peer sent.

        Returns:
            Which bound it breaks; empty when it may be looked at.
        """
        if excess := counts.excess:
            return excess
        peer_now = self._peer(peer, now_ms)
        for name, bucket, count, rate in (
            ("messages", peer_now.messages, counts.messages, MESSAGES_PER_S),
            ("bytes", peer_now.bytes, counts.size, BYTES_PER_S),
            ("ids told", peer_now.told, counts.told, TOLD_PER_S),
            ("ids asked for", peer_now.asked, counts.asked, ASKED_PER_S),
            ("changes of the mesh", peer_now.changes, counts.changes, CHANGES_PER_S),
        ):
            if count and not bucket.take(count, now_ms=now_ms):
                return f"more than {rate} {name} a second by gossip"
        return ""

    def author(self, author: bytes, *, now_ms: int) -> bool:
        """Count a message against who signed it; False when it says too much."""
        bucket = self._authors.get(author)
        if bucket is None:
            if len(self._authors) >= AUTHORS_METERED_MAX:
                del self._authors[next(iter(self._authors))]
            bucket = self._authors[author] = TokenBucket(
                rate_per_s=AUTHORED_PER_S, burst=AUTHORED_BURST, now_ms=now_ms
            )
        return bucket.take(now_ms=now_ms)

    def may_accept(self, *, now_ms: int) -> bool:
        """Whether this node would take one more message, and pass it on; counts nothing."""
        return self._accepted.has(now_ms=now_ms)

    def accept(self, *, now_ms: int) -> bool:
        """Count a message this node takes and passes on; False when it has enough."""
        return self._accepted.take(now_ms=now_ms)

    def _peer(self, peer: PeerId, now_ms: int) -> _Peer:
        found = self._peers.get(peer)
        if found is None:
            if len(self._peers) >= PEERS_METERED_MAX:
                del self._peers[next(iter(self._peers))]
            found = self._peers[peer] = _Peer(now_ms)
        return found
