"""Handlers of net_: what it costs, who is kept out.

Knows: the network port's bans. Must not know: transports.
"""

import trio

from prsm.node.clock import utc_text
from prsm.node.memory import rss_bytes
from prsm.node.net.interface import BanInfo
from prsm.node.net.network import PeerNetwork
from prsm.node.rpc.dispatch import Handler
from prsm.node.rpc.methods import net as api
from prsm.node.rpc.spec import Caller, NoParams
from prsm.protocol.errors import LocalError
from prsm.protocol.ids import PeerId


class NetApi:
    """Answers about the peer-to-peer side of this node.

    Args:
        network: of the node.
    """

    def __init__(self, network: PeerNetwork) -> None:
        self._network = network

    def handlers(self) -> dict[str, Handler]:
        """Method name -> handler."""
        return {
            "net_getLoad": self.load,
            "net_getBans": self.bans,
            "net_ban": self.ban,
            "net_unban": self.unban,
        }

    async def load(self, _params: NoParams, _caller: Caller) -> api.Load:
        """What the network side holds now."""
        network, peers = self._network, self._network.peers()
        outbound = sum(peer.outbound for peer in peers)
        return api.Load(
            peers_in=len(peers) - outbound,
            peers_out=outbound,
            tasks=trio.lowlevel.current_statistics().tasks_living,
            held_bytes=network.watch.held_bytes(),
            rss_bytes=rss_bytes(),
            memory_bytes=network.watch.limit_bytes,
            dropped=network.watch.dropped,
            bans=len(network.bans()),
            restarts=network.restarts,
            counts=dict(network.counts()),
        )

    async def bans(self, _params: NoParams, _caller: Caller) -> api.Bans:
        """The bans that run now."""
        return api.Bans(items=tuple(self._shown(ban) for ban in self._network.bans()))

    async def ban(self, params: api.BanParams, _caller: Caller) -> api.Ban:
        """Keep a peer out for a while.

        Raises:
            LocalError: it is this node.
        """
        peer = PeerId(params.peer_id)
        if peer == self._network.peer_id:
            raise LocalError(f"{peer} is this node", hint="give the id of another node")
        self._network.ban(peer, params.seconds * 1000, params.why)
        return next(self._shown(ban) for ban in self._network.bans() if ban.peer == peer)

    async def unban(self, params: api.UnbanParams, _caller: Caller) -> api.Unbanned:
        """Let a peer in again."""
        known = self._network.pardon(PeerId(params.peer_id))
        return api.Unbanned(peer_id=params.peer_id, was_known=known)

    def _shown(self, ban: BanInfo) -> api.Ban:
        return api.Ban(
            peer_id=ban.peer,
            until=utc_text(ban.shown_ms),
            why=ban.why,
            times=ban.times,
            by_operator=ban.is_ours,
        )
