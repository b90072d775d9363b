"""Workers of ours that said they go away, and until when they finish what they hold for us.

A worker's word binds us to nothing: it is planned with last while it holds, and what it does for
us is looked at. One that is gone, or whose time is over, is forgotten. Must not know jobs.
Source: docs/spec/work.md, "Draining".
"""

from collections.abc import Callable
from typing import Final

import trio

from prsm.node.net.interface import Incoming, Network, PeerEvent
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.serving import Draining

LINGER_S: Final = 5.0  # beyond its time; one that stays longer is a worker like others


class Departures:
    """What connected peers say of their going."""

    def __init__(self, network: Network) -> None:
        """Join the network, before it runs."""
        self._until_s: dict[PeerId, float] = {}  # of the loop's clock
        self.listeners: list[Callable[[PeerId], None]] = []  # told of each that goes
        self._changed = trio.Event()
        network.on_message(Draining, self._take)
        network.on_peer(self._peer_event)

    def left_s(self, peer: PeerId) -> float | None:
        """For how long it still finishes what it holds; None if it does not go."""
        until_s = self._until_s.get(peer)
        if until_s is None:
            return None
        left_s = until_s - trio.current_time()
        if left_s <= -LINGER_S:
            del self._until_s[peer]
            return None
        return max(0.0, left_s)

    async def wait(self) -> None:
        """Return when another peer says something of the kind."""
        await self._changed.wait()

    def _take(self, incoming: Incoming) -> None:
        said, peer = incoming.message, incoming.peer
        assert isinstance(said, Draining)
        if said.left_ms is None:
            self._until_s.pop(peer, None)
            return
        self._until_s[peer] = trio.current_time() + said.left_ms / 1000
        for tell in self.listeners:
            tell(peer)
        self._changed.set()
        self._changed = trio.Event()

    def _peer_event(self, event: PeerEvent) -> None:
        if not event.up:
            self._until_s.pop(event.peer, None)
