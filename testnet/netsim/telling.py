"""Peers tell each other of addresses, as the exchange of a real node does; sybils tell of sybils.

Knows the address books and who linked whom. Must not know who is dialled for the quota.
"""

from functools import partial
from typing import Final, final

from prsm.node.net.addresses import Kind
from prsm.node.net.places import Place, Scope
from prsm.protocol.limits import ADDRESSES_TOLD_MAX
from prsm.testnet.netsim.clock import QuickDice
from prsm.testnet.netsim.dials import Dials
from prsm.testnet.netsim.plan import Role
from prsm.testnet.netsim.scene import Node, Scene

ASK_AGAIN_FIRST_MS: Final = 5_000  # node/peers/exchange: three times as long after each answer
TOLD_SHARE: Final = 4  # of a large book a fourth is told, for an hour the same,
TOLD_ALL_MAX: Final = 32  # of a small one all
ELSEWHERE_MAX: Final = 16  # to whom there is no place for


@final
class Telling:
    """The exchange of addresses of one run.

    Args:
        scene: nodes and links.
        dials: to look whether somebody is where he says.
    """

    def __init__(self, scene: Scene, dials: Dials) -> None:
        self._scene = scene
        self._nodes = scene.nodes
        self._dice = scene.dice
        self._draws = QuickDice(f"{scene.plan.seed} telling")
        self._dials = dials
        self._sybils = [node.place for node in scene.nodes if node.role is Role.SYBIL]
        self._told: dict[int, list[Place]] = {}
        dials.turned_away = self._turned_away

    def joined(self, node: Node, peer: int) -> None:
        """Ask a new peer; again later, ever more seldom."""
        if node.role is not Role.SYBIL:
            self._ask(node, node.life, peer, ASK_AGAIN_FIRST_MS)

    def _ask(self, node: Node, life: int, peer: int, again_ms: int) -> None:
        if node.life != life or not node.is_up or peer not in node.links:
            return
        links = self._scene.links
        chosen = peer in node.outbound or peer < self._scene.plan.seeds
        links.stream(self._asked, peer, node.number, chosen)
        again = partial(self._ask, node, life, peer, 3 * again_ms)
        self._scene.clock.after(again_ms, again)

    def _asked(self, receiver: int, sender: int, chosen: object) -> None:
        node = self._nodes[receiver]
        if sender not in node.links or node.role is Role.SILENT:
            return
        told = self._tell(node) if chosen else []
        links = self._scene.links
        links.stream(self._answered, sender, receiver, told)

    def _tell(self, node: Node) -> list[Place]:
        if node.role is Role.SYBIL:
            return self._dice.sample(self._sybils, min(ADDRESSES_TOLD_MAX, len(self._sybils)))
        told = self._told.get(node.number)
        if told is None:
            known = node.book.tellable(
                self._draws,
                listener=Scope.PUBLIC,
                count=len(node.book),
                now_ms=self._scene.wall_ms,
            )
            part = min(ADDRESSES_TOLD_MAX, max(TOLD_ALL_MAX, len(known) // TOLD_SHARE))
            told = known[:part]
            if len(known) > part:
                self._told[node.number] = told
        return told

    def _turned_away(self, node: Node, number: int) -> None:
        """Who had no place names some it has reached."""
        teller = self._nodes[number]
        known = self._tell(teller)
        first = self._dice.randrange(len(known)) if known else 0
        for place in (known[first:] + known[:first])[:ELSEWHERE_MAX]:
            now_ms, source = self._scene.wall_ms, teller.place.group
            node.book.learn(place, source=source, kind=Kind.EXCHANGE, now_ms=now_ms)

    def _answered(self, receiver: int, sender: int, told: object) -> None:
        node = self._nodes[receiver]
        if not node.is_up or sender not in node.links:
            return
        assert isinstance(told, list)
        teller = self._nodes[sender].place
        now_ms = self._scene.wall_ms
        learn = node.book.learn
        for place in (teller, *told):
            learn(place, source=teller.group, kind=Kind.EXCHANGE, now_ms=now_ms)
        entry = node.book.get(teller.text)
        if entry is not None and not entry.last_success_ms and entry.is_ready(now_ms):
            self._dials.dial(node, sender, partial(self._looked, node, teller.text))

    def _looked(self, node: Node, text: str, reached: bool) -> None:  # noqa: FBT001 - a callback
        if reached:
            node.book.succeeded(text, now_ms=self._scene.wall_ms)
        else:
            node.book.failed(text, now_ms=self._scene.wall_ms)
