"""Whether a snapshot is the way forward, and whose: a decision over what peers said of themselves.

Pure, so that simulated nodes decide as real ones do. Knows: STATUS of peers that are trusted.
Must not know: clocks, connections. Source: docs/spec/storage.md, "Snapshots".
"""

from collections.abc import Mapping

from prsm.protocol.ids import PeerId
from prsm.protocol.messages.consensus import Status


def choose(
    own: int,
    trusted: Mapping[PeerId, Status],
    *,
    settled: int,
    far: int,
    stalls: Mapping[PeerId, int],
) -> tuple[PeerId, int] | None:
    """Whom to ask for which snapshot, None while blocks lead on.

    Args:
        own: height of this node's ledger.
        trusted: what peers said last that have not proved another thing than they claimed.
        settled: members of more than a third of the stake claim it, so it is a real height. An
            offer above it may be a liar's, of whom there is always a higher one to wait for.
        far: so many heights behind, a snapshot is worth more than blocks.
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
    low = own + far if has_blocks else own
    worth = [offer for offer in sound or offers if offer[1] > low]
    if not worth:
        return None
    _, height, peer = max(worth)
    return peer, height
