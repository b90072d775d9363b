"""Workers this node has heard of and is not linked to: whom to dial when those at hand are too few.

Knows capacity beacons that count now, each signed by its node and by who is to be paid, and the
address book. Must not know plans. The same beacons, book and links name the same peers in the same
order. A beacon only leads to a link: what its worker offers, it says again over that link.

Source: docs/spec/work.md, "Planning".
"""

from collections.abc import Callable, Collection, Sequence
from typing import Final

from prsm.node.net.interface import Network
from prsm.node.peers.announce import Announcement
from prsm.node.peers.discovery import Discovery
from prsm.node.peers.holders import DIALS_MAX, Holders
from prsm.node.telemetry import logs
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.announce import CapacityBeacon

log = logs.get("recruits")

KEPT_SECONDS: Final = 3600.0  # a job of many batches; one that takes longer finds others
BATCHES_MAX: Final = 2  # of dials, if nobody of the first answers


class Recruits:
    """Links to workers that were only heard of.

    Args:
        network: of the node.
        discovery: its addresses.
        holders: makes links for a while.
        heard: capacity beacons that count now.
    """

    def __init__(
        self,
        network: Network,
        discovery: Discovery,
        holders: Holders,
        heard: Callable[[], Sequence[Announcement]],
    ) -> None:
        self._network = network
        self._discovery = discovery
        self._holders = holders
        self._heard = heard

    async def seek(self, model: bytes, runtime: str, only: Collection[bytes] = ()) -> bool:
        """Link to a few more workers that could serve a model; whether there are any.

        Args:
            model: CID of its manifest.
            runtime: it is computed by.
            only: accounts that may work; all if empty.
        """
        linked = {info.peer for info in self._network.peers()} | {self._network.peer_id}
        book = self._discovery.book
        known = [
            book.of_peer(peer)
            for peer in ranked(self._heard(), model, runtime, only)
            if peer not in linked
        ]
        hints = [entries[0].place for entries in known if entries]
        for batch in range(BATCHES_MAX):
            chosen = hints[batch * DIALS_MAX : (batch + 1) * DIALS_MAX]
            if chosen and (reached := await self._holders.link(chosen, seconds=KEPT_SECONDS)):
                log.info("linked to more workers", count=reached)
                return True
        return False


def ranked(
    heard: Sequence[Announcement], model: bytes, runtime: str, only: Collection[bytes] = ()
) -> list[PeerId]:
    """Whom to dial first: who has the model, then who is free, then the cheapest."""
    found = []
    for said in heard:
        beacon = said.content
        assert isinstance(beacon, CapacityBeacon)
        if beacon.runtime != runtime or (only and beacon.worker not in only):
            continue
        worth = (model not in beacon.models, not beacon.slots_free, beacon.price_per_row)
        found.append((*worth, beacon.waiting_ms, said.peer))
    return [peer for *_, peer in sorted(found)]
