"""Handlers of net_getReach and net_getTopology.

Knows: the parts of reach, and the clocks. Must not know: transports.
"""

from typing import Literal

from prsm.node.clock import Clock, utc_text
from prsm.node.net.links import LinkOf, links_of
from prsm.node.net.reach import Reach
from prsm.node.net.topology import Heard
from prsm.node.rpc.dispatch import Handler
from prsm.node.rpc.methods import reach as api
from prsm.node.rpc.spec import Caller, NoParams
from prsm.protocol.ids import PeerId


class ReachApi:
    """Answers about who reaches whom.

    Args:
        reach: the parts of this node.
        clock: of the node.
    """

    def __init__(self, reach: Reach, clock: Clock) -> None:
        self._reach = reach
        self._clock = clock

    def handlers(self) -> dict[str, Handler]:
        """Method name -> handler."""
        return {"net_getReach": self.state, "net_getTopology": self.topology}

    async def state(self, _params: NoParams, _caller: Caller) -> api.ReachState:
        """Whether others can dial this node."""
        found = self._reach.dialbacks.info()
        relay = self._reach.relay.info()
        offset = self._clock.wall_ms() - self._clock.monotonic_ms()
        return api.ReachState(
            verdict=found.verdict.value,
            ip=found.ip,
            listening=self._reach.listening(),
            announced=self._reach.addresses(),
            seen=found.seen,
            dialled=found.dialled,
            places=tuple(
                api.PlaceHeld(
                    relay=place.relay,
                    address=place.address,
                    until=utc_text(place.until_ms + offset),
                    bytes_per_s=place.bytes_per_s,
                )
                for place in self._reach.behind.places()
            ),
            relay=api.Relaying(
                serves=relay.serves,
                places=relay.places,
                circuits=relay.circuits,
                carried_bytes=relay.carried_bytes,
            ),
        )

    async def topology(self, _params: NoParams, _caller: Caller) -> api.Topology:
        """Every link of the network as both of its ends see it."""
        heard = await self._reach.topology.gather()
        views = {each.peer: each.view for each in heard if each.view is not None}
        links = links_of(views)
        return api.Topology(
            at=utc_text(self._clock.wall_ms()),
            one_sided=sum(link.is_one_sided for link in links),
            silent=sum(each.view is None for each in heard),
            nodes=tuple(_node(each, self._reach.us) for each in heard),
            links=tuple(_link(link) for link in links),
        )


def _node(heard: Heard, us: PeerId) -> api.TopologyNode:
    if heard.view is None:
        return api.TopologyNode(heard.peer, "", "nobody", 0, 0, heard.why)
    told_by: Literal["this node", "itself", "a peer of it"] = "itself"
    if heard.peer == us:
        told_by = "this node"
    elif heard.via:
        told_by = "a peer of it"
    return api.TopologyNode(
        peer_id=heard.peer,
        region=heard.view.region,
        told_by=told_by,
        links=len(heard.view.links),
        age_ms=heard.view.age_ms,
        why="",
    )


def _link(link: LinkOf) -> api.TopologyLink:
    one, other = link.seen_by_one, link.seen_by_other
    said = {end.dialled is (end is one) for end in (one, other) if end is not None}
    return api.TopologyLink(
        one=link.one,
        other=link.other,
        seen_by="both" if one and other else "one" if one else "other",
        one_sided=link.is_one_sided,
        dialled_by="unclear" if len(said) != 1 else "one" if said == {True} else "other",
        relayed=any(end.relayed for end in (one, other) if end is not None),
        rtt_ms_one=one.rtt_ms if one else None,
        rtt_ms_other=other.rtt_ms if other else None,
    )
