"""What a node owes the network's models now: fetch a copy, give one back, or nothing.

Every node computes it from what it has heard, and acts only for itself. Who is first in the order
of placement acts at once; the next ones act only if the copy is still missing after their turn,
so a node that fails or sees things differently is replaced without a message. Pure: time is an
integer handed in. Source: docs/spec/storage.md, "Copies".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from prsm.node.replication.placement import Keeper, spread
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.announce import MODELS

COPIES_MIN: Final = 1
COPIES_DEFAULT: Final = 3
GRACE_MS: Final = 8_000  # a node that restarts is back by then
TURN_MS: Final = 15_000  # and so long each next one waits for those before it
EXCESS_MS: Final = 600_000  # a copy is given back only when it was one too many for so long
# Nobody says that he holds a model no longer: what he said is over by then.
GIVE_BACK_TURN_MS: Final = MODELS.ttl_ms + 60_000


class Duty(Enum):
    """What is to be done about a model by one node."""

    NOTHING = "nothing"
    FETCH = "fetch"
    RELEASE = "release"


@dataclass(frozen=True, slots=True)
class Subject:
    """A model whose copies are counted.

    Attributes:
        manifest: its CID.
        size_bytes: of all files.
        holders: live nodes that have it whole.
        copies: how many there should be.
    """

    manifest: bytes
    size_bytes: int
    holders: frozenset[PeerId]
    copies: int

    @property
    def missing(self) -> int:
        """How many copies too few."""
        return max(0, self.copies - len(self.holders))


@dataclass(frozen=True, slots=True)
class View:
    """What one node knows: itself, and every live node that would keep copies."""

    me: PeerId
    keepers: Mapping[PeerId, Keeper]

    def known(self, peers: frozenset[PeerId]) -> list[Keeper]:
        """Keepers of these peers; one that keeps no copies for others is of no region."""
        return [self.keepers.get(peer, Keeper(peer, "", 0)) for peer in sorted(peers)]


class Clocks:
    """Since when each model has too few copies, or too many; bounded by the models there are."""

    def __init__(self) -> None:
        self._short_ms: dict[bytes, int] = {}
        self._over_ms: dict[bytes, int] = {}

    def look(self, subjects: Mapping[bytes, Subject], now_ms: int) -> None:
        """Note what is short or over now, and forget what is not any more."""
        short = {cid for cid, each in subjects.items() if each.missing and each.holders}
        over = {cid for cid, each in subjects.items() if len(each.holders) > each.copies}
        self._short_ms = {cid: self._short_ms.get(cid, now_ms) for cid in short}
        self._over_ms = {cid: self._over_ms.get(cid, now_ms) for cid in over}

    def short_ms(self, manifest: bytes, now_ms: int) -> int | None:
        """For how long copies have been missing; None if none are."""
        since = self._short_ms.get(manifest)
        return None if since is None else now_ms - since

    def over_ms(self, manifest: bytes, now_ms: int) -> int | None:
        """For how long there have been too many; None if there are not."""
        since = self._over_ms.get(manifest)
        return None if since is None else now_ms - since


def duty(
    view: View, subject: Subject, *, short_ms: int | None, over_ms: int | None, is_mine: bool
) -> Duty:
    """Say what this node does about a model.

    Args:
        view: what it knows.
        subject: the model.
        short_ms: for how long copies have been missing.
        over_ms: for how long there have been too many.
        is_mine: did this node fetch its copy only to repair?
    """
    if view.me in subject.holders:
        if not is_mine or over_ms is None:
            return Duty.NOTHING
        # Those placement would choose last go first, one at a time.
        order = spread(subject.manifest, view.known(subject.holders), size_bytes=0)
        last_first = [keeper.peer for keeper in reversed(order)]
        is_due = over_ms >= EXCESS_MS + last_first.index(view.me) * GIVE_BACK_TURN_MS
        return Duty.RELEASE if is_due else Duty.NOTHING
    if short_ms is None or short_ms < GRACE_MS:
        return Duty.NOTHING
    turn = turn_of(view, subject)
    if turn is None or short_ms < GRACE_MS + turn * TURN_MS:
        return Duty.NOTHING
    return Duty.FETCH


def assigned(view: View, subject: Subject) -> tuple[Keeper, ...]:
    """Who should fetch the missing copies, first of all."""
    return _order(view, subject)[: subject.missing]


def turn_of(view: View, subject: Subject) -> int | None:
    """How many turns this node waits before it fetches; None if it never does."""
    order = [keeper.peer for keeper in _order(view, subject)]
    if not subject.missing or view.me not in order:
        return None
    return max(0, order.index(view.me) - subject.missing + 1)


def _order(view: View, subject: Subject) -> tuple[Keeper, ...]:
    return spread(
        subject.manifest,
        view.keepers.values(),
        size_bytes=subject.size_bytes,
        holders=view.known(subject.holders),
    )
