"""Which peers read which files now: each such file is leased, so that nobody removes it meanwhile.

Knows peers, roots, seconds handed in. Must not know what is read. A lease outlives a peer that says
nothing more by two minutes; of a peer that is lost it is given back.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from prsm.protocol.ids import PeerId
from prsm.storage.cid import Cid
from prsm.storage.errors import Conflict, NotFound
from prsm.storage.store.leases import RENEW_MS, Leases

READERS_MAX: Final = 256  # pairs of peer and file; the one that was quiet longest loses its lease


@dataclass(slots=True)
class _Reader:
    """A lease, and when it was given or renewed."""

    number: int
    at_s: float


class Readers:
    """The leases of peers.

    Args:
        leases: of the store.
    """

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self._readers: OrderedDict[tuple[PeerId, Cid], _Reader] = OrderedDict()

    def note(self, peer: PeerId, root: Cid, *, now_s: float) -> None:
        """A peer has read a part of a file."""
        known = self._readers.get((peer, root))
        if known is not None:
            self._readers.move_to_end((peer, root))
            if now_s - known.at_s < RENEW_MS / 1000:
                return
        try:
            lease = None if known is None else self._leases.renew(known.number)
        except NotFound:
            lease = None
        try:
            lease = lease or self._leases.grant(root, holder=f"peer {peer}", purpose="serve")
        except Conflict:  # it is being removed: the next read finds nothing
            self._readers.pop((peer, root), None)
            return
        self._readers[peer, root] = _Reader(lease.number, now_s)
        while len(self._readers) > READERS_MAX:
            _, oldest = self._readers.popitem(last=False)
            self._leases.release(oldest.number)

    def forget(self, peer: PeerId) -> None:
        """A peer was lost."""
        for pair in [pair for pair in self._readers if pair[0] == peer]:
            self._leases.release(self._readers.pop(pair).number)
