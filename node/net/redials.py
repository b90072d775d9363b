"""When a peer that was lost, or never answered, is dialled again: pure.

Knows peers by name and times. Must not know how one dials. A pause doubles from 0.2 to 10 s, so
that what is gone costs little; long ones are cut by up to a half, each pair and time by another
part, since all links that a partition ends would else be dialled at one moment. What ends it is
heard at once: as soon as anybody is linked after a while, the others are dialled too, spread over
half a second. Of a pair the lower
PeerId dials in the first half of it and the other one in the second, so that they do not meet.

Invariants: between two dials of a peer lie at least `REDIAL_FIRST_S`; a link that comes and goes
hastens the others once in `HASTEN_EVERY_S`; hastening shortens no later pause.
"""

from typing import Final
from zlib import crc32

from prsm.protocol.ids import PeerId

REDIAL_FIRST_S: Final = 0.2
REDIAL_LONGEST_S: Final = 10.0
REFUSED_S: Final = 300.0  # for another program or network at the other end
SPREAD_FROM_S: Final = 3.0
HASTEN_EVERY_S: Final = 5.0
HASTEN_OVER_S: Final = 0.5
assert REDIAL_FIRST_S < HASTEN_OVER_S < HASTEN_EVERY_S <= REDIAL_LONGEST_S


class Redials:
    """The pauses of a node's dials.

    Args:
        us: our own identity.
    """

    def __init__(self, us: PeerId) -> None:
        self._us = us
        self._due_s: dict[PeerId, float] = {}
        self._failed_s: dict[PeerId, float] = {}
        self._pause_s: dict[PeerId, float] = {}
        self._began_s: dict[PeerId, float] = {}  # dials that are under way
        self._refused: set[PeerId] = set()
        self._hastened_s = -HASTEN_EVERY_S

    def due_s(self, peer: PeerId) -> float:
        """When a peer is to be dialled; it has begun."""
        return self._due_s[peer]

    def begin(self, peer: PeerId, *, now_s: float) -> None:
        """A peer is wanted and not linked: dial it soon."""
        self._pause_s[peer] = REDIAL_FIRST_S
        self.fail(peer, now_s=now_s)

    def start(self, peer: PeerId, *, now_s: float) -> None:
        """A dial begins."""
        self._refused.discard(peer)
        self._began_s[peer] = now_s

    def fail(self, peer: PeerId, *, now_s: float, is_full: bool = False) -> None:
        """A dial failed now: the next one after a pause that doubles; the longest if full."""
        pause_s = REDIAL_LONGEST_S if is_full else self._pause_s[peer]
        if self._began_s.pop(peer, now_s) < self._hastened_s:
            pause_s = HASTEN_OVER_S  # begun while nobody was there; somebody has come since
        elif pause_s >= SPREAD_FROM_S:
            seed = f"{self._us} {peer} {now_s}".encode()
            pause_s -= pause_s / 2 * crc32(seed) / 2**32
        self._failed_s[peer], self._due_s[peer] = now_s, now_s + pause_s
        self._pause_s[peer] = min(2 * self._pause_s[peer], REDIAL_LONGEST_S)

    def refuse(self, peer: PeerId, *, now_s: float) -> None:
        """The peer was there, and will not do until a person changes something: nothing hastens it.

        Then it is dialled as one that was just lost.
        """
        self._refused.add(peer)
        self._began_s.pop(peer, None)
        self._failed_s[peer], self._due_s[peer] = now_s, now_s + REFUSED_S
        self._pause_s[peer] = REDIAL_FIRST_S

    def end(self, peer: PeerId) -> None:
        """A peer is linked, or not wanted any more."""
        self._refused.discard(peer)
        for known in (self._due_s, self._failed_s, self._pause_s, self._began_s):
            known.pop(peer, None)

    def hear(self, *, now_s: float) -> bool:
        """Somebody was linked: perhaps the way to all others is free again.

        Returns:
            Whether somebody is due sooner than before.
        """
        if now_s - self._hastened_s < HASTEN_EVERY_S:
            return False
        self._hastened_s = now_s
        waiting = sorted(self._due_s.keys() - self._refused)
        late = [peer for peer in waiting if self._due_s[peer] > now_s + HASTEN_OVER_S]
        for place, peer in enumerate(late):
            half = place / len(late) / 2 + (0 if self._us < peer else 0.5)
            at_s = max(now_s + half * HASTEN_OVER_S, self._failed_s[peer] + REDIAL_FIRST_S)
            self._due_s[peer] = at_s
        return bool(late)
