"""When each peer hears where this node stands: often while something moves, seldom at rest; pure.

Knows peers by name, times, and that a standing changed. Must not know what a STATUS says. A node
at rest among 31 peers spent half of its CPU on saying the same twice a second and hearing it.
Streams lose nothing while their link lives, so what is at rest is repeated for the rare event
that a full queue dropped; a new link is told at once.
Source: docs/spec/pbft.md, "Messages".
"""

from collections.abc import Hashable, Iterable
from typing import Final

from prsm.protocol.ids import PeerId

MOVING_EVERY_MS: Final = 500
MOVING_FOR_MS: Final = 2_000  # after the last change; a late vote and a lost word fit in
REST_EVERY_MS: Final = 4_000  # below a heartbeat's 5 s, which it spares
assert MOVING_FOR_MS >= 2 * MOVING_EVERY_MS


class Tidings:
    """Who is to be told now."""

    def __init__(self) -> None:
        self._new: dict[PeerId, None] = {}
        self._standing: Hashable = None
        self._moving_until_ms = 0
        self._due_ms = 0

    @property
    def due_ms(self) -> int:
        """When to ask again at the latest; 0: at once."""
        return 0 if self._new else self._due_ms

    def meet(self, peer: PeerId) -> None:
        """A link came up: its peer knows nothing of us."""
        self._new[peer] = None

    def note(self, standing: Hashable, *, now_ms: int) -> None:
        """Say where we stand now; a change is told within the shorter time, and again.

        Args:
            standing: equal to the last one if nothing has moved.
            now_ms: monotonic.
        """
        if standing != self._standing:
            self._standing, self._moving_until_ms = standing, now_ms + MOVING_FOR_MS
            self._due_ms = min(self._due_ms, now_ms + MOVING_EVERY_MS)

    def whom(self, peers: Iterable[PeerId], *, now_ms: int) -> list[PeerId]:
        """Take out who is to be told now: all in their time, before it the new ones.

        Args:
            peers: live ones.
            now_ms: monotonic.
        """
        new, self._new = self._new, {}
        if now_ms < self._due_ms:
            return [peer for peer in peers if peer in new] if new else []
        every_ms = MOVING_EVERY_MS if now_ms < self._moving_until_ms else REST_EVERY_MS
        self._due_ms = now_ms + every_ms
        return list(peers)
