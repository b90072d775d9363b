"""net_: how this node is reached, and the whole network as its nodes see it."""

from typing import Final, Literal

from prsm.node.rpc.spec import Count, Method, NoParams, PeerIdText, Result, Scope


class PlaceHeld(Result, frozen=True):
    """A relay that keeps a place for this node, and where others dial it through that relay."""

    relay: PeerIdText
    address: str
    until: str
    bytes_per_s: Count


class Relaying(Result, frozen=True):
    """What this node carries for others."""

    serves: bool
    places: tuple[PeerIdText, ...]
    circuits: Count
    carried_bytes: Count


class ReachState(Result, frozen=True):
    """Whether others can dial this node, and why it thinks so.

    `seen`: ip -> groups of peers that see it there; `dialled`: verdict -> groups that came to it.
    """

    verdict: Literal["reachable", "unreachable", "unknown"]
    ip: str | None
    listening: tuple[str, ...]
    announced: tuple[str, ...]
    seen: dict[str, Count]
    dialled: dict[str, Count]
    places: tuple[PlaceHeld, ...]
    relay: Relaying


class TopologyNode(Result, frozen=True):
    """A node of the network: who told its links, and how many it tells."""

    peer_id: PeerIdText
    region: str
    told_by: Literal["this node", "itself", "a peer of it", "nobody"]
    links: Count
    age_ms: Count
    why: str


class TopologyLink(Result, frozen=True):
    """A link from both ends; `one_sided`: both nodes were heard, and only one of them names it."""

    one: PeerIdText
    other: PeerIdText
    seen_by: Literal["both", "one", "other"]
    one_sided: bool
    dialled_by: Literal["one", "other", "unclear"]
    relayed: bool
    rtt_ms_one: Count | None
    rtt_ms_other: Count | None


class Topology(Result, frozen=True):
    """All nodes and links anybody names; claims of the nodes, each about its own links."""

    at: str
    one_sided: Count
    silent: Count
    nodes: tuple[TopologyNode, ...]
    links: tuple[TopologyLink, ...]


METHODS: Final = (
    Method(
        "net_getReach",
        NoParams,
        ReachState,
        Scope.READ,
        "Whether others can dial this node, its relays, and what it relays.",
        words=("net", "reach"),
    ),
    Method(
        "net_getTopology",
        NoParams,
        Topology,
        Scope.READ,
        "Every link of the network as both of its ends see it.",
        words=("net", "topology"),
        deadline_ms=15_000,
    ),
)
