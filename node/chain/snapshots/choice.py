"""Whether a snapshot is the way forward, and whose: a decision over what peers said of themselves.

Pure, so that simulated nodes decide as real ones do: times are milliseconds handed in. Knows:
STATUS of peers that are trusted, attempts that failed. Must not know: connections.
Source: docs/spec/storage.md, "Snapshots".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from prsm.protocol.ids import PeerId
from prsm.protocol.messages.consensus import Status


def choose(
    own: int,
    trusted: Mapping[PeerId, Status],
    *,
    settled: int,
    far: int | None,
    stalls: Mapping[PeerId, int],
) -> tuple[PeerId, int] | None:
    """Whom to ask for which snapshot, None while blocks lead on.

    Args:
        own: height of this node's ledger.
        trusted: what peers said last that have not proved another thing than they claimed.
        settled: members of more than a third of the stake claim it, so it is a real height. An
            offer above it may be a liar's, of whom there is always a higher one to wait for.
        far: so many heights behind, a snapshot is worth more than blocks; None: it is not.
        stalls: how often each peer let a call run out of time. Who never did goes first, however
            much others offer: liars that drip would otherwise take their turns for ever.
    """
    offers = [
        (-stalls.get(peer, 0), status.snapshot_height, peer)
        for peer, status in trusted.items()
        if status.snapshot_height > own
    ]
    sound = [offer for offer in offers if offer[1] <= settled]
    ahead = [status for status in trusted.values() if status.height > own]
    has_blocks = any(status.first_height <= own + 1 for status in ahead)
    if not has_blocks:
        low = own
    elif far is None:
        return None
    else:
        low = own + far
    worth = [offer for offer in sound or offers if offer[1] > low]
    if not worth:
        return None
    _, height, peer = max(worth)
    return peer, height


@final
@dataclass(slots=True)
class BlocksTurn:
    """After a snapshot that could not be had blocks lead on for a while, if somebody has them.

    Peers that drop, refuse or drip theirs would otherwise hold a node for as long as there is one
    of them left to ask, and blocks wait for snapshots.

    Attributes:
        first_ms: how long, after the first failure; each one in a row doubles it. Shorter than the
            pause of who failed, or it would be asked first again.
        most_ms: at most so long.
    """

    first_ms: int
    most_ms: int
    _failed: int = 0  # in a row
    _until_ms: int = 0

    def far(self, far: int, now_ms: int) -> int | None:
        """What `choose` takes: None while it is the turn of blocks."""
        return far if now_ms >= self._until_ms else None

    def fail(self, now_ms: int) -> None:
        """Whoever was asked for a snapshot was silent or refused; who lies is asked no more."""
        self._until_ms = now_ms + min(self.most_ms, self.first_ms << self._failed)
        self._failed = min(self._failed + 1, self.most_ms.bit_length())

    def get_on(self, now_ms: int) -> None:
        """A try showed a good part of a long way and was not done: that is no failure."""
        self._until_ms = now_ms + self.first_ms

    def succeed(self) -> None:
        """One was taken."""
        self._failed = 0
