"""What the nodes of an attacker do to take slots; they run no code of ours.

Knows victims and the links. Must not know records, meshes or address books.
"""

from functools import partial
from typing import Final, final

from prsm.testnet.netsim.dials import HANDSHAKE_TRIPS, Dials
from prsm.testnet.netsim.scene import Node, Scene

REDIAL_MS: Final = 5_000
WANTED: Final = 8  # each wants so many honest peers


@final
class Sybils:
    """The attacker of one run.

    Args:
        scene: nodes and links.
        dials: how victims are reached.
    """

    def __init__(self, scene: Scene, dials: Dials) -> None:
        self._scene = scene
        self._dials = dials
        self._dice = scene.dice
        self._victims = scene.plan.nodes

    def start(self, node: Node) -> None:
        """Let one take slots."""
        node.is_up = True
        for _ in range(WANTED):
            self._intrude(node)

    def lost(self, node: Node) -> None:
        """One lost a link: it looks for another."""
        self._scene.clock.after(REDIAL_MS, partial(self._intrude, node))

    def _intrude(self, node: Node) -> None:
        """Dial somebody at random; one that has no room is left for another, later."""
        if sum(node.links.values()) >= WANTED:
            return
        number = self._dice.randrange(self._victims)
        wait_ms = self._scene.links.handshake_ms(node.number, number, HANDSHAKE_TRIPS)
        self._scene.clock.after(wait_ms, partial(self._intruded, node, number))

    def _intruded(self, node: Node, number: int) -> None:
        victim = self._scene.nodes[number]
        if number in node.links or not self._dials.lets_in(victim, node):
            self.lost(node)
        else:
            self._dials.join(node, victim)
