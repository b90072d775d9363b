"""Who should hold a model: every node that has heard the same gives the same answer.

Rendezvous hashing: each node draws as many tickets for a model as it weighs, the best ticket
counts; different regions first. Integers and sha256 only, so that no two machines differ by a
rounding. Pure; must not know who is alive, or what is fetched.

Invariants (tests/unit/node/replication): a node that leaves moves only its own copies; a node that
comes takes at most one place of a model; nobody without room is chosen; the order of the nodes
does not matter. Source: docs/spec/storage.md, "Copies"; Thaler and Ravishankar 1998.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from prsm.protocol.ids import PeerId

WEIGHT_MAX: Final = 16
_ROOM_UNIT: Final = 30  # bits: room is weighed in GiB, by its magnitude
STAKE_WEIGHT: Final = 2  # who has something to lose is asked before who has not


@dataclass(frozen=True, slots=True)
class Keeper:
    """A node that would keep copies.

    Attributes:
        peer: which.
        region: as its operator calls it; empty is a region like any other.
        room_bytes: free for copies, as it says, rounded down to a power of two.
        is_bonded: does its operator have a stake in this network?
    """

    peer: PeerId
    region: str
    room_bytes: int
    is_bonded: bool = False

    @property
    def weight(self) -> int:
        """How many tickets it draws: one more for each doubling of its room."""
        magnitude = (self.room_bytes >> _ROOM_UNIT).bit_length()
        return min(WEIGHT_MAX, 1 + magnitude + STAKE_WEIGHT * self.is_bonded)


def ranked(subject: bytes, keepers: Iterable[Keeper]) -> list[Keeper]:
    """Order nodes for a model, the best first; a node's place among others depends on both only."""
    return sorted(keepers, key=lambda keeper: (_score(subject, keeper), keeper.peer), reverse=True)


def chosen(
    subject: bytes,
    keepers: Collection[Keeper],
    *,
    copies: int,
    size_bytes: int,
    holders: Collection[Keeper] = (),
) -> tuple[Keeper, ...]:
    """Choose who should get a model, the first ones first; others follow in case they fail.

    Args:
        subject: CID of its manifest.
        keepers: all that may be chosen.
        copies: how many are wanted beside `holders`.
        size_bytes: of the model; who has less room is left out.
        holders: nodes that have it; their regions count as taken.

    Returns:
        At most `copies`; fewer if no others have room.
    """
    return spread(subject, keepers, size_bytes=size_bytes, holders=holders)[: max(0, copies)]


def spread(
    subject: bytes,
    keepers: Collection[Keeper],
    *,
    size_bytes: int,
    holders: Collection[Keeper] = (),
) -> tuple[Keeper, ...]:
    """Order everybody with room who has no copy: each next one is of a region with the fewest."""
    taken = {holder.peer for holder in holders}
    able = [k for k in keepers if k.peer not in taken and k.room_bytes >= size_bytes]
    counts = Counter(holder.region for holder in holders)
    waiting = ranked(subject, able)
    order: list[Keeper] = []
    while waiting:
        best = min(waiting, key=lambda keeper: counts[keeper.region])  # the first of the fewest
        waiting.remove(best)
        counts[best.region] += 1
        order.append(best)
    return tuple(order)


def room_told(room_bytes: int) -> int:
    """Round room down to a power of two, so that a beacon is news only when it matters."""
    return 1 << (room_bytes.bit_length() - 1) if room_bytes > 0 else 0


def _score(subject: bytes, keeper: Keeper) -> bytes:
    """The best of its tickets: as likely the best of all as its weight among all weights."""
    seed = hashlib.sha256(b"prsm1rv" + subject + keeper.peer.encode()).digest()
    tickets = (hashlib.sha256(seed + bytes([number])).digest() for number in range(keeper.weight))
    return max(tickets)
