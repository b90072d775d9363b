"""Room for outputs, set aside before they are computed and free when they have left.

What finds no room waits, its credit with it, so a requester that does not read holds up itself
and a worker's memory stays bounded; nothing that was computed is thrown away for want of room.
Apart from the room for inputs: those wait for outputs to leave, so inputs that took all of it
would wait for ever. Must not know jobs or tensors.
"""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from prsm.node.inference.terms import Terms
from prsm.protocol.ids import PeerId


class Outgoing:
    """Bytes of outputs, computed or on their way out, by peer; at most the terms' bounds."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._freed = trio.Event()
        self.held: Counter[PeerId] = Counter()

    @asynccontextmanager
    async def room(self, peer: PeerId, size: int) -> AsyncIterator[None]:
        """Wait until so many bytes for a peer have room, and hold it for the block."""
        # Never more than there is: it would wait for ever.
        size = min(size, self._terms.bytes_max, self._terms.bytes_per_peer_max)
        while not self._has_room(peer, size):
            await self._freed.wait()
        self.held[peer] += size
        try:
            yield
        finally:
            self.held[peer] -= size
            if not self.held[peer]:
                del self.held[peer]
            self._freed.set()
            self._freed = trio.Event()

    def _has_room(self, peer: PeerId, size: int) -> bool:
        of_peer, taken = self.held[peer], self.held.total()
        terms = self._terms
        return of_peer + size <= terms.bytes_per_peer_max and taken + size <= terms.bytes_max
