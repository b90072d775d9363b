"""One run: boots, churn, records, attacks; figures at the end. Same plan, same run.

Knows the plan and who is told of what. Must not know how a mesh, a dial or a repair works.
"""

import gc
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Final, final

from prsm.node.net.addresses import Kind
from prsm.testnet.netsim.dials import Dials
from prsm.testnet.netsim.gossip import Gossip
from prsm.testnet.netsim.measure import Figures
from prsm.testnet.netsim.plan import Plan, Role, Scheme
from prsm.testnet.netsim.repairs import Repairs
from prsm.testnet.netsim.scene import Node, Scene, make_scene
from prsm.testnet.netsim.sybils import Sybils
from prsm.testnet.netsim.telling import Telling

DOWN_MS: Final = (5_000, 10_000)  # how long a node of the churn is away
WATCH_MS: Final = 1_000  # how often the mesh is looked at
MESH_ENOUGH: Final = 4  # degree_low
FORGED_PENALTY: Final = 10  # node/net/network, for a record that is refused
FORGE_MS: Final = 1_000
AUTHOR_STAYS_MS: Final = 2_000  # after publishing


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one run showed; all of it simulated.

    Attributes:
        figures: of deliveries.
        mesh: for each second, the per mille of honest nodes that at least four forwarding peers
            have in their mesh.
        soon: for each record when it was published, and the per mille of the nodes that had it
            within a second: the mesh brought it, a pull takes longer.
        ways: how records came for the first time.
        counts: messages, dials, questions.
        trace: lines, when asked for.
    """

    figures: Figures
    mesh: tuple[tuple[int, int], ...]
    soon: tuple[tuple[int, int], ...]
    ways: dict[str, int]
    counts: dict[str, int]
    trace: tuple[str, ...]


@final
class World:
    """A network that is about to be played.

    Args:
        plan: what it is like.
        traced: whether to keep a line for each thing that happens to a node.
    """

    def __init__(self, plan: Plan, *, traced: bool = False) -> None:
        self.plan = plan
        self.scene: Scene = make_scene(plan)
        self.scene.trace.is_on = traced
        self._dice = Random(f"{plan.seed} world")
        self.dials = Dials(self.scene, self._linked, self._unlinked)
        self.telling = Telling(self.scene, self.dials)
        self.sybils = Sybils(self.scene, self.dials)
        self.gossip = Gossip(self.scene, self._taken, self.dials.reset)
        self.repairs = Repairs(self.scene, self._pulled, self.penalise)
        self._honest = [node for node in self.scene.nodes if node.role is Role.HONEST]
        self._ordinary = self.scene.nodes[: plan.nodes]
        self._mesh: list[tuple[int, int]] = []

    def play(self) -> Outcome:
        """Run until the plan's end."""
        self._introduce()
        self._schedule()
        # Nothing here forms cycles that matter; collecting a million tuples over and over does.
        was_on = gc.isenabled()
        gc.disable()
        try:
            self.scene.clock.run(self.plan.end_ms)
        finally:
            if was_on:
                gc.enable()
        return self._outcome()

    # -- the script of a run

    def _introduce(self) -> None:
        """Tell every node of the bootstrap list, and of others it knew before."""
        plan, nodes, wall_ms = self.plan, self.scene.nodes, self.scene.wall_ms
        if plan.wired:
            return
        count = min(plan.known, plan.nodes - 1)
        for node in self._ordinary:
            told = [*range(plan.seeds), *self._dice.sample(range(plan.nodes), count)]
            for number in told:
                place = nodes[number % plan.nodes].place
                kind = Kind.CONFIGURED if number < plan.seeds else Kind.EXCHANGE
                source = nodes[self._dice.randrange(plan.nodes)].place.group
                node.book.learn(place, source=source, kind=kind, now_ms=wall_ms)

    def _schedule(self) -> None:
        plan, after = self.plan, self.scene.clock.after
        spread_ms = 1 if plan.cold else max(1, plan.settle_ms // 2)
        for node in self._ordinary:
            after(self._dice.randrange(spread_ms), partial(self._start, node))
        for number, other in plan.wired:
            dialled = partial(self.dials.join, self.scene.nodes[number], self.scene.nodes[other])
            after(spread_ms, dialled)
        for sybil in self.scene.nodes[plan.nodes :]:
            at_ms = plan.sybils_ms + self._dice.randrange(1000)
            after(at_ms, partial(self.sybils.start, sybil))
        for number in range(plan.records):
            after(plan.first_record_ms + number * plan.every_ms, self._publish)
        going = self._dice.sample(self._ordinary, plan.nodes * plan.churn // 1000)
        for node in going:
            from_ms = self._dice.randrange(plan.first_record_ms, plan.last_record_ms + 1)
            until_ms = from_ms + self._dice.randrange(*DOWN_MS)
            self.scene.deliveries.away(node.number, from_ms, until_ms)
            after(from_ms, partial(self._vanish, node))
            after(until_ms, partial(self._start, node))
        if plan.flash_ms:
            after(plan.flash_ms, self._flash)
        if plan.scheme is Scheme.FORGE and plan.sybils:
            after(plan.sybils_ms + FORGE_MS, self._forge)
        after(0, self._watch)

    def _start(self, node: Node) -> None:
        if node.is_up:
            return
        self.scene.trace.add(self.scene.clock.now_ms, f"start {node.number}")
        node.seen.clear()
        node.mesh.clear()
        self.dials.start(node)
        self.gossip.begin(node)
        if self.plan.repair and node.role is Role.HONEST:
            self.repairs.start(node)

    def _vanish(self, node: Node) -> None:
        self.scene.trace.add(self.scene.clock.now_ms, f"vanish {node.number}")
        self.dials.stop(node)

    def _publish(self) -> None:
        # A record whose author is gone before anybody passed it on is nobody's to deliver.
        soon_ms = self.scene.clock.now_ms + AUTHOR_STAYS_MS
        able = [
            node
            for node in self._honest
            if node.is_up and not self.scene.deliveries.is_away(node.number, soon_ms)
        ]
        if able:
            self.gossip.publish(able[self._dice.randrange(len(able))])

    def _flash(self) -> None:
        self.gossip.sybils_behave = False
        self.scene.trace.add(self.scene.clock.now_ms, "flash")

    def _forge(self) -> None:
        """Each sybil sends every honest peer a record that is refused."""
        for sybil in self.scene.nodes[self.plan.nodes :]:
            for number in sorted(sybil.links):
                self.scene.links.send(self._on_forged, number, sybil.number, None)
        self.scene.clock.after(FORGE_MS, self._forge)

    # -- what happens to a node

    def _linked(self, node: Node, peer: int) -> None:
        self.scene.trace.add(self.scene.clock.now_ms, f"link {node.number} {peer}")
        if self.plan.repair and node.role is Role.HONEST:
            self.repairs.joined(node, peer)
        self.gossip.joined(node, peer)
        if not self.plan.wired:
            self.telling.joined(node, peer)

    def _unlinked(self, node: Node, peer: int) -> None:
        self.scene.trace.add(self.scene.clock.now_ms, f"lost {node.number} {peer}")
        node.mesh.left(peer)
        if node.role is Role.SYBIL:
            self.sybils.lost(node)
        self.repairs.left(node, peer)

    def _taken(self, node: Node, source: int, record: int, way: str) -> None:
        now_ms = self.scene.clock.now_ms
        deliveries = self.scene.deliveries
        self.scene.trace.add(now_ms, f"{way} {node.number} {source} {record}")
        deliveries.arrived(node.number, record, now_ms)
        if node.role is Role.HONEST:
            deliveries.ways[way] = deliveries.ways.get(way, 0) + 1
        node.service.note(self.scene.nodes[source].peer, now_ms=now_ms)
        if way == "made":
            self.repairs.make(record, node.peer)
        if node.repair is not None:
            self.repairs.keep(node, record)

    def _pulled(self, node: Node, source: int, record: int) -> None:
        """A pulled record is kept, and not given to the mesh: peers pull it in their turn."""
        if record not in node.seen:
            node.seen.add(record)
            self._taken(node, source, record, "pulled")

    def _on_forged(self, receiver: int, sender: int, _: object) -> None:
        node = self.scene.nodes[receiver]
        if sender in node.links and node.role is Role.HONEST:
            self.penalise(node, sender, FORGED_PENALTY)

    def penalise(self, node: Node, number: int, points: int) -> None:
        """Count a fault of a peer; a ban closes the link."""
        if not self.plan.scoring:
            return
        peer = self.scene.nodes[number].peer
        if node.scores.penalise(peer, points, now_ms=self.scene.clock.now_ms):
            self.dials.drop(node.number, number)

    # -- figures

    def _watch(self) -> None:
        forwards, nodes = self.gossip.forwards, self.scene.nodes
        up = enough = 0
        for node in self._honest:
            if node.is_up:
                up += 1
                good = sum(1 for peer in node.mesh.members if forwards(nodes[peer]))
                enough += good >= MESH_ENOUGH
        now_ms = self.scene.clock.now_ms
        self._mesh.append((now_ms, 1000 * enough // up if up else 0))
        self.scene.clock.after(WATCH_MS, self._watch)

    def _outcome(self) -> Outcome:
        links = self.scene.links
        return Outcome(
            figures=self.scene.deliveries.figures(),
            mesh=tuple(self._mesh),
            soon=self.scene.deliveries.soon(),
            ways=dict(sorted(self.scene.deliveries.ways.items())),
            counts={
                "events": self.scene.clock.events,
                "messages": links.sent,
                "lost": links.lost,
                "duplicates": self.gossip.duplicates,
                "dials": self.dials.dialled,
                "refused": self.dials.refused,
                "compared": self.repairs.compared,
                "fetched": self.repairs.fetched,
            },
            trace=tuple(self.scene.trace.lines),
        )


def play(plan: Plan, *, traced: bool = False) -> Outcome:
    """Play one plan.

    Raises:
        LocalError: a figure of the plan is out of its bounds.
    """
    return World(plan, traced=traced).play()
