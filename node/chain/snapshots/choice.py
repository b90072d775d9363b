"""Whether a snapshot is the way forward, and whose: a decision over what peers said of themselves.

Pure, so that simulated nodes decide as real ones do. Knows: STATUS of peers that are trusted.
Must not know: clocks, connections. Source: docs/spec/storage.md, "Snapshots".
"""

from collections.abc import Mapping

from prsm.protocol.ids import PeerId
from prsm.protocol.messages.consensus import Status


def choose(
    own: int, trusted: Mapping[PeerId, Status], *, settled: int, far: int
) -> tuple[PeerId, int] | None:
    """Whom to ask for which snapshot, None while blocks lead on.

    Args:
        own: height of this node's ledger.
        trusted: what peers said last that have not proved another thing than they claimed.
        settled: members of more than a third of the stake claim it, so it is a real height. An
            offer above it may be a liar's, of whom there is always a higher one to wait for.
        far: so many heights behind, a snapshot is worth more than blocks.
    """
    offers = [(status.snapshot_height, peer) for peer, status in trusted.items()]
    sound = [offer for offer in offers if own < offer[0] <= settled]
    height, peer = max(sound or offers, default=(0, PeerId("")))
    ahead = [status for status in trusted.values() if status.height > own]
    has_blocks = any(status.first_height <= own + 1 for status in ahead)
    if height <= own or (has_blocks and height <= own + far):
        return None
    return peer, height
