"""Simulated nodes and what they share in one run: clock, dice, links, deliveries.

Knows identities, addresses and the state of each node; the scores, the address book and the
store of records in it are the ones a real node has. Must not know what a node does with them.
"""

from dataclasses import dataclass, field
from hashlib import sha256
from random import Random
from typing import Final, final

from prsm.node.net.addresses import AddressBook
from prsm.node.net.places import Place, Scope
from prsm.node.net.records import Store
from prsm.node.net.repair import Repair
from prsm.node.net.scores import Scores, Service
from prsm.node.net.seeds import Seeds
from prsm.node.net.selection import Dial, Outbound, Selection
from prsm.protocol.identity import peer_id_of
from prsm.protocol.ids import PeerId
from prsm.testnet.netsim.clock import Wheel
from prsm.testnet.netsim.links import Links
from prsm.testnet.netsim.measure import Deliveries, Trace
from prsm.testnet.netsim.mesh import Mesh, Worth
from prsm.testnet.netsim.plan import Plan, Role

WALL_MS: Final = 1_790_000_000_000  # of the nodes' clocks at the start of a run
PORT: Final = 4001
HONEST_GROUPS: Final = 400  # /16 groups in which the nodes live
_FIRST_OCTET: Final = 11  # from there on there are public addresses: 11.0 to 11.255, 12.0, ...
_GROUPS_MAX: Final = 88 * 256  # 11.0 to 98.255


@final
class Node:
    """One simulated node.

    Attributes:
        number: index in the scene.
        role: how it behaves.
        place: where it is dialled.
        is_up: whether it runs.
        life: how often it was started; what was meant for an earlier life is dropped.
        links: connected peers; True for those it dialled itself.
        inbound: how many of them it did not dial.
        outbound: links of its quota, live or being redialled.
        dialling: what it tries to reach now.
        selection: chooses them.
        seeds: whether it needs the bootstrap list.
        seen: records it has had.
        mesh: of gossip; only nodes that run the real code have one that matters.
        scores: faults of its peers.
        service: what they did for it.
        book: addresses it knows.
        store: records it keeps; None where nothing is repaired.
        repair: what it pulls from whom.
        wake_ms: when the plan of the repair is looked at next; -1 is never.
    """

    __slots__ = (
        "book",
        "dialling",
        "inbound",
        "is_up",
        "life",
        "links",
        "mesh",
        "number",
        "outbound",
        "peer",
        "place",
        "repair",
        "role",
        "scores",
        "seeds",
        "seen",
        "selection",
        "service",
        "store",
        "wake_ms",
    )

    def __init__(self, number: int, role: Role, place: Place, dice: Random) -> None:
        self.number = number
        self.role = role
        self.place = place
        self.peer = place.peer
        self.is_up = False
        self.life = 0
        self.links: dict[int, bool] = {}
        self.inbound = 0
        self.outbound: dict[int, Outbound] = {}
        self.dialling: dict[PeerId, Dial] = {}
        self.selection: Selection | None = None
        self.seeds: Seeds[int] = Seeds(0, dice)
        self.store: Store | None = None
        self.repair: Repair | None = None
        self.wake_ms = -1
        self.seen: set[int] = set()
        self.mesh = Mesh(self.links, dice)
        self.scores = Scores()
        self.service = Service()
        self.book = AddressBook(sha256(f"book {number}".encode()).digest(), us=self.peer)


@dataclass(slots=True)
class Scene:
    """Everything the parts of a simulator look at."""

    plan: Plan
    clock: Wheel
    dice: Random
    links: Links
    deliveries: Deliveries
    nodes: list[Node]
    trace: Trace = field(default_factory=Trace)
    index: dict[PeerId, int] = field(default_factory=dict)

    @property
    def wall_ms(self) -> int:
        """What every node's clock says; they agree."""
        return WALL_MS + self.clock.now_ms


def make_scene(plan: Plan) -> Scene:
    """Make the nodes of a plan; none runs, none knows another.

    Raises:
        LocalError: a figure of the plan is out of its bounds.
    """
    plan.validate()
    clock = Wheel()
    links = Links(plan, Random(f"{plan.seed} links"), clock)
    dice = Random(f"{plan.seed} nodes")
    roles = _roles(plan, dice)
    nodes = []
    for number, role in enumerate(roles):
        links.place()
        nodes.append(Node(number, role, place_for(plan, number, role), dice))
    if plan.scoring:
        peers = [node.peer for node in nodes]
        for node in nodes[: plan.nodes]:
            node.mesh = Mesh(node.links, dice, _worth(node, peers, clock))
    honest = [node.number for node in nodes if node.role is Role.HONEST]
    return Scene(
        plan=plan,
        clock=clock,
        dice=Random(f"{plan.seed} events"),
        links=links,
        deliveries=Deliveries(honest, len(nodes)),
        nodes=nodes,
        index={node.peer: node.number for node in nodes},
    )


def place_for(plan: Plan, number: int, role: Role) -> Place:
    """Return where a node is dialled: sybils crowd in the few groups they could get."""
    key = sha256(f"netsim {plan.seed} {number}".encode()).digest()
    peer = peer_id_of(key)
    if role is Role.SYBIL:
        group = HONEST_GROUPS + number % plan.sybil_groups
    else:
        group = int.from_bytes(key[:4], "big") % HONEST_GROUPS
    high, low = divmod(group % _GROUPS_MAX, 256)
    octets = f"{_FIRST_OCTET + high}.{low}"
    host = number % 65_536
    text = f"/ip4/{octets}.{host >> 8}.{host & 255}/tcp/{PORT}/p2p/{peer}"
    return Place(text, peer, octets, Scope.PUBLIC)


def _worth(node: Node, peers: list[PeerId], clock: Wheel) -> Worth:
    worth = node.service.worth
    return lambda number: worth(peers[number], now_ms=clock.now_ms)


def _roles(plan: Plan, dice: Random) -> list[Role]:
    """Honest, silent and sybil nodes; those of the bootstrap list are honest."""
    silent = plan.nodes * plan.silent // 1000
    roles = [Role.HONEST] * plan.nodes
    for number in dice.sample(range(min(plan.seeds, plan.nodes // 2), plan.nodes), silent):
        roles[number] = Role.SILENT
    return roles + [Role.SYBIL] * plan.sybils
