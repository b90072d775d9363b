"""Who may be linked at all: the allow-list of a private network, and how many links there are.

Knows peer ids and counts. Must not know connections.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from prsm.node.net.interface import PeerUnreachable
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import PEERS_MAX

OUTBOUND_KEPT: Final = 8  # of all links: peers that dial never take them
INBOUND_MAX: Final = PEERS_MAX - OUTBOUND_KEPT


class NotAllowed(PeerUnreachable):
    """A node with an allow-list, and a peer that is not on it; either side says so."""

    reason = "not_allowed"


class PeerFull(PeerUnreachable):
    """All places are taken, here or there; who turned us away may have named others to dial."""

    reason = "peer_full"

    def __init__(self, what: str, *, others: Sequence[str] = ()) -> None:
        super().__init__(what, hint="the node looks for others by itself" if others else "")
        self.others = tuple(others)


@dataclass(frozen=True, slots=True)
class EntryRules:
    """What an owner decides about links.

    Attributes:
        trusted: the only peers that may connect and are dialled; everybody if empty.
        peers_max: links at once, both ways.
    """

    trusted: frozenset[PeerId] = frozenset()
    peers_max: int = PEERS_MAX

    def refuse_stranger(self, peer: PeerId) -> None:
        """Check the allow-list.

        Raises:
            NotAllowed: it is not empty, and the peer is not on it.
        """
        if self.trusted and peer not in self.trusted:
            raise NotAllowed(
                f"peer {peer} is not one of the {len(self.trusted)} of net.trusted",
                hint=f'add "{peer}" to net.trusted in config.toml, and start again',
            )

    def refuse_surplus(self, total: int, inbound: int, *, wanted: bool) -> None:
        """Check that there is room for one more link.

        Args:
            total: links now.
            inbound: those of them that the peer dialled.
            wanted: whether this node dials that peer itself.

        Raises:
            PeerFull: there is none.
        """
        if total >= self.peers_max:
            raise PeerFull(f"{total} peers, at most {self.peers_max}")
        inbound_max = self.peers_max - min(OUTBOUND_KEPT, self.peers_max // 2)
        if not wanted and inbound >= inbound_max:
            raise PeerFull(f"{inbound} peers have dialled, at most {inbound_max}")
