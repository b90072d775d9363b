"""Records and mesh messages between simulated nodes.

Knows the mesh of each node and the links. Must not know who is dialled, nor how missed records
are pulled. Silent nodes and sybils take part in meshes and pass nothing on.
"""

from collections.abc import Callable
from functools import partial
from typing import Final, final

from prsm.testnet.netsim.mesh import HEARTBEAT_MS
from prsm.testnet.netsim.plan import Role, Scheme
from prsm.testnet.netsim.scene import Node, Scene

FIRST_HEARTBEAT_MS: Final = 100  # after the start, as libp2p has it

Taken = Callable[[Node, int, int, str], None]  # node, from whom, record, how it came


@final
class Gossip:
    """The gossip of one run.

    Args:
        scene: nodes and links.
        taken: told of each first arrival.
        gone: told when a node hears from somebody it has no link to.
    """

    def __init__(self, scene: Scene, taken: Taken, gone: Callable[[int, int], None]) -> None:
        self._scene = scene
        self._nodes = scene.nodes
        self._send = scene.links.send
        self._clock = scene.clock
        self._taken = taken
        self._gone = gone
        self._authors: list[int] = []
        # Sybils that pass nothing on hear nothing either: it would only cost time.
        self._deaf = 1 << 60 if scene.plan.scheme is Scheme.FLASH else scene.plan.nodes
        self.sybils_behave = scene.plan.scheme is Scheme.FLASH
        self.duplicates = 0

    def forwards(self, node: Node) -> bool:
        """Whether a node passes records on."""
        return node.role is Role.HONEST or (node.role is Role.SYBIL and self.sybils_behave)

    def publish(self, node: Node) -> int:
        """Let a node publish a record; return its number."""
        record = self._scene.deliveries.published(node.number, self._clock.now_ms)
        self._authors.append(node.number)
        node.seen.add(record)
        self._taken(node, node.number, record, "made")
        self._spread(node, node.number, record)
        return record

    def accept(self, node: Node, source: int, record: int, way: str) -> bool:
        """Take a record in, and pass it on if the node does; False if it had it."""
        if record in node.seen:
            self.duplicates += 1
            return False
        node.seen.add(record)
        self._taken(node, source, record, way)
        if self.forwards(node):
            self._spread(node, source, record)
        return True

    def joined(self, node: Node, peer: int) -> None:
        """Begin with a peer that has just connected: graft it, replay what is recent."""
        now_ms = self._clock.now_ms
        if node.mesh.joined(peer, now_ms):
            self._send(self.on_graft, peer, node.number, None)
        if self.forwards(node) and (recent := node.mesh.recent()):
            self._send(self.on_replay, peer, node.number, recent)

    def begin(self, node: Node) -> None:
        """Start the heartbeats of a node."""
        beat = partial(self._heartbeat, node, node.life)
        self._clock.after(FIRST_HEARTBEAT_MS + self._scene.dice.randrange(50), beat)

    # -- messages: receiver, sender, what

    def on_record(self, receiver: int, sender: int, record: object) -> None:
        """A record from a mesh peer."""
        node = self._nodes[receiver]
        if sender not in node.links:
            self._stranger(node, sender)
        elif record in node.seen:
            self.duplicates += 1
        else:
            assert isinstance(record, int)
            self.accept(node, sender, record, "mesh")

    def on_told(self, receiver: int, sender: int, records: object) -> None:
        """Answer of a peer that was asked by IWANT."""
        self._accept_all(receiver, sender, records, "told")

    def on_replay(self, receiver: int, sender: int, records: object) -> None:
        """Recent records of a peer that has just connected."""
        self._accept_all(receiver, sender, records, "replayed")

    def on_graft(self, receiver: int, sender: int, _: object) -> None:
        """A peer takes us into its mesh."""
        node = self._nodes[receiver]
        if sender not in node.links:
            self._stranger(node, sender)
        elif not node.mesh.on_graft(sender, self._clock.now_ms):
            self._send(self.on_prune, sender, receiver, None)

    def on_prune(self, receiver: int, sender: int, _: object) -> None:
        """A peer puts us out of its mesh."""
        node = self._nodes[receiver]
        if sender in node.links:
            node.mesh.on_prune(sender, self._clock.now_ms)

    def on_have(self, receiver: int, sender: int, records: object) -> None:
        """IHAVE: ask for what is missing."""
        node = self._nodes[receiver]
        assert isinstance(records, tuple)
        if sender not in node.links:
            self._stranger(node, sender)
            return
        seen = node.seen
        wanted = tuple(record for record in records if record not in seen)
        if wanted:
            self._send(self.on_want, sender, receiver, wanted)

    def on_want(self, receiver: int, sender: int, records: object) -> None:
        """IWANT: hand out what is still kept."""
        node = self._nodes[receiver]
        assert isinstance(records, tuple)
        if sender in node.links and self.forwards(node) and (held := node.mesh.kept(records)):
            self._send(self.on_told, sender, receiver, held)

    # -- inside

    def _accept_all(self, receiver: int, sender: int, records: object, way: str) -> None:
        node = self._nodes[receiver]
        assert isinstance(records, tuple)
        if sender not in node.links:
            self._stranger(node, sender)
            return
        for record in records:
            self.accept(node, sender, record, way)

    def _stranger(self, node: Node, sender: int) -> None:
        """Somebody writes on a connection this node knows nothing of: it hears of a reset."""
        if node.is_up:
            delay_ms = self._scene.links.delay_ms(node.number, sender)
            self._clock.after(delay_ms, partial(self._gone, sender, node.number))

    def _spread(self, node: Node, source: int, record: int) -> None:
        mesh, send, number = node.mesh, self._send, node.number
        author, deaf = self._authors[record], self._deaf
        mesh.keep(record)
        for peer in mesh.members:
            if peer != source and peer != author and peer < deaf:  # noqa: PLR1714 - in a hot loop
                send(self.on_record, peer, number, record)

    def _heartbeat(self, node: Node, life: int) -> None:
        if node.life != life or not node.is_up:
            return
        number, send = node.number, self._send
        beat = node.mesh.heartbeat(self._clock.now_ms)
        for peer in beat.grafts:
            send(self.on_graft, peer, number, None)
        for peer in beat.prunes:
            send(self.on_prune, peer, number, None)
        if beat.told and self.forwards(node):
            for peer in beat.listeners:
                if peer < self._deaf:
                    send(self.on_have, peer, number, beat.told)
        self._clock.after(HEARTBEAT_MS, partial(self._heartbeat, node, life))
