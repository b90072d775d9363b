"""Tells peers where this node stands: STATUS, to whom and when it is worth it.

Knows the live peers, and whom agreement reaches by votes. Must not know what a replica does with
what it hears. When is decided in node/chain/tidings. Source: docs/spec/pbft.md, "Messages".
"""

from collections.abc import Callable

from prsm.consensus.pbft import statuses
from prsm.consensus.pbft.state import State
from prsm.node.chain.tidings import Tidings
from prsm.node.net.interface import Channel, Network, PeerEvent
from prsm.protocol.ids import PeerId


class Herald:
    """Says STATUS.

    Args:
        network: not running yet.
        wake: has `tell` called soon: a peer came that has heard nothing yet.
    """

    def __init__(self, network: Network, wake: Callable[[], None]) -> None:
        self._network = network
        self._wake = wake
        self._tidings = Tidings()
        # Clients that watch hear of blocks by notices; a STATUS with each would cost as much again.
        self.is_client: Callable[[PeerId], bool] = lambda _peer: False
        network.on_peer(self._hear_peer)

    @property
    def due_ms(self) -> int:
        """When to call `tell` at the latest."""
        return self._tidings.due_ms

    def tell(self, state: State, held: tuple[int, int], *, now_ms: int, has_block: bool) -> None:
        """Tell who is to be told now; who follows and is no validator hears of each block at once.

        Args:
            state: of our replica.
            held: heights of the latest snapshot served here (0: none) and of its first block.
            now_ms: monotonic.
            has_block: whether one was executed since the last time.
        """
        tip, view = state.tip, state.instance.view
        standing = (tip.height, state.low, view, held, state.waiting)
        self._tidings.note(standing, now_ms=now_ms)
        if not has_block and now_ms < self.due_ms:
            return
        live = [info.peer for info in self._network.peers()]
        told = self._tidings.whom(live, now_ms=now_ms)
        if has_block:  # validators see most of it in votes
            others = {member.peer_id for member in tip.validators.validators}.union(told)
            told += [peer for peer in live if peer not in others and not self.is_client(peer)]
        for peer in told:
            status = statuses.status_for(state, peer, held)
            self._network.send_nowait(peer, status, channel=Channel.CTL)

    def _hear_peer(self, event: PeerEvent) -> None:
        if event.up:
            self._tidings.meet(event.peer)
            self._wake()
