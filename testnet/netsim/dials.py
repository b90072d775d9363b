"""Who links to whom: dials, refusals, lost links.

Drives the address book and the selection of outbound peers of a real node the way its discovery
and its network do. Must not know gossip, nor what peers tell each other of addresses. With the
guard switched off, peers are drawn from all known addresses alike and nothing is remembered of
earlier links: the control.
"""

from collections.abc import Callable
from functools import partial
from typing import Final, final

from prsm.node.net.seeds import TURNED_AWAY_MS, Seeds
from prsm.node.net.selection import Dial, Outbound, Selection, Slot, choose_anchors
from prsm.protocol.ids import PeerId
from prsm.testnet.netsim.clock import QuickDice
from prsm.testnet.netsim.plan import Role
from prsm.testnet.netsim.scene import Node, Scene

INBOUND_MAX: Final = 120  # node/net/peers
LINKS_MAX: Final = 128
DIAL_DEADLINE_MS: Final = 5_000
REDIAL_FIRST_MS: Final = 200
REDIAL_LONGEST_MS: Final = 10_000
DIALS_MAX: Final = 4  # node/peers/discovery: at once
LOOK_MS: Final = 1_000
CONFIGURED_MS: Final = 2_000  # before a bootstrap peer that did not answer is dialled again
LOST_GRACE_MS: Final = 30_000
HANDSHAKE_TRIPS: Final = 3  # TCP, Noise, hello
MISSED_MS: Final = (10_000, 15_000)  # node/net/calls: two heartbeats of 5 s

Linked = Callable[[Node, int], None]


@final
class Dials:
    """The connections of one run.

    Args:
        scene: nodes and links.
        up: told at both ends of a new link.
        down: told at an end that has lost one.

    Attributes:
        turned_away: told who found no place at whom.
    """

    def __init__(self, scene: Scene, up: Linked, down: Linked) -> None:
        self._scene = scene
        self._nodes = scene.nodes
        self._clock = scene.clock
        self._dice = scene.dice
        self._up = up
        self._down = down
        self.turned_away: Linked = lambda _node, _number: None
        self.dialled = 0
        self.refused = 0

    # -- a node's life

    def start(self, node: Node) -> None:
        """Let a node dial and be dialled."""
        node.is_up = True
        node.life += 1
        node.links.clear()
        node.inbound = 0
        node.outbound.clear()
        node.dialling.clear()
        seed = f"{self._scene.plan.seed} selection {node.number} {node.life}"
        node.selection = Selection(node.book, QuickDice(seed))
        node.seeds = Seeds(node.selection.quota, QuickDice(f"{seed} seeds"))
        self._dial_seeds(node)
        self._look(node, node.life)

    def stop(self, node: Node) -> None:
        """Let a node vanish; its peers notice when its heartbeats are missed."""
        node.is_up = False
        low, high = MISSED_MS
        for peer in node.links:
            delay_ms = low + self._dice.randrange(high - low)
            self._clock.after(delay_ms, partial(self._missed, peer, node.number, node.life))
        node.links.clear()

    def drop(self, number: int, peer: int) -> None:
        """End a link at one side; the other side hears of it."""
        node = self._nodes[number]
        if peer in node.links:
            self._unlink(node, peer)
            delay_ms = self._scene.links.delay_ms(number, peer)
            self._clock.after(delay_ms, partial(self.reset, peer, number))

    def reset(self, number: int, peer: int) -> None:
        """Hear that the other side knows nothing of a link."""
        node = self._nodes[number]
        if peer in node.links and number not in self._nodes[peer].links:
            self._unlink(node, peer)

    def lets_in(self, node: Node, stranger: Node) -> bool:
        """Whether a node accepts a connection."""
        if not node.is_up:
            return False
        if node.role is Role.SYBIL or stranger.number in node.links:
            return True
        if self._is_full(node):
            return False
        return not node.scores.banned_ms(stranger.peer, now_ms=self._clock.now_ms)

    @staticmethod
    def _is_full(node: Node) -> bool:
        return len(node.links) >= LINKS_MAX or node.inbound >= INBOUND_MAX

    def join(self, node: Node, other: Node) -> None:
        """Link two nodes; the first one dialled."""
        if other.links.get(node.number, True):
            other.inbound += 1
        node.inbound -= not node.links.get(other.number, True)
        node.links[other.number] = True
        other.links[node.number] = False
        self._up(node, other.number)
        self._up(other, node.number)

    def _missed(self, number: int, peer: int, life: int) -> None:
        node, other = self._nodes[number], self._nodes[peer]
        is_same = other.life == life and other.is_up
        if peer in node.links and not is_same and number not in other.links:
            self._unlink(node, peer)

    def _unlink(self, node: Node, peer: int) -> None:
        node.inbound -= not node.links.pop(peer)
        self._down(node, peer)
        if node.role is Role.SYBIL or not node.is_up:
            return
        if peer < self._scene.plan.seeds:
            if not node.seeds.is_left(peer):
                self._redial(node, node.life, peer, REDIAL_FIRST_MS)
        elif peer in node.outbound:
            self._redial(node, node.life, peer, REDIAL_FIRST_MS)
            give_up = partial(self._give_up, node, node.life, peer)
            self._clock.after(LOST_GRACE_MS, give_up)

    # -- dialling

    def dial(self, node: Node, number: int, done: Callable[[bool], None]) -> None:
        """Try to reach a node.

        Args:
            node: who dials.
            number: whom; below 0 there is nobody.
            done: told whether there is somebody who shakes hands; not if the dialler died.
        """
        self.dialled += 1
        wait_ms = DIAL_DEADLINE_MS
        if number >= 0 and self._nodes[number].is_up:
            wait_ms = self._scene.links.handshake_ms(node.number, number, HANDSHAKE_TRIPS)
        end = partial(self._dialled, node, node.life, number, done)
        self._clock.after(min(wait_ms, DIAL_DEADLINE_MS), end)

    def _dialled(self, node: Node, life: int, number: int, done: Callable[[bool], None]) -> None:
        if node.life != life or not node.is_up:
            return
        able = number in node.links or len(node.links) < LINKS_MAX
        reached = able and number >= 0 and self.lets_in(self._nodes[number], node)
        if reached:
            banned_ms = node.scores.banned_ms(self._nodes[number].peer, now_ms=self._clock.now_ms)
            reached = not banned_ms
        self.refused += not reached
        if not reached and number >= 0 and self._turns_away(self._nodes[number]):
            self.turned_away(node, number)
        done(reached)

    def _turns_away(self, other: Node) -> bool:
        """Whether a node says that it has no place, and names others."""
        return other.is_up and other.role is Role.HONEST and self._is_full(other)

    # -- the bootstrap list

    def _dial_seeds(self, node: Node) -> None:
        for number in range(self._scene.plan.seeds):
            if number != node.number:
                self._dial_seed(node, node.life, number)

    def _look_at_seeds(self, node: Node) -> None:
        linked = sum(number in node.links for number in node.outbound)
        seeds = [number for number in range(self._scene.plan.seeds) if number in node.links]
        if not node.seeds.look(linked, seeds, now_ms=self._clock.now_ms):
            return
        if not node.seeds.are_left:
            self._dial_seeds(node)
            return
        for number in seeds:
            if node.links[number] and node.seeds.is_left(number):
                self.drop(node.number, number)

    def _dial_seed(self, node: Node, life: int, number: int) -> None:
        able = node.life == life and node.is_up and not node.seeds.is_left(number)
        if able and number not in node.links:
            self.dial(node, number, partial(self._seed_dialled, node, number))

    def _seed_dialled(self, node: Node, number: int, reached: bool) -> None:  # noqa: FBT001 - a callback
        if not reached:
            again = partial(self._dial_seed, node, node.life, number)
            is_full = self._turns_away(self._nodes[number])
            self._clock.after(TURNED_AWAY_MS if is_full else CONFIGURED_MS, again)
        elif number not in node.links and not node.seeds.is_left(number):
            node.book.succeeded(self._nodes[number].place.text, now_ms=self._scene.wall_ms)
            self.join(node, self._nodes[number])

    def _redial(self, node: Node, life: int, number: int, pause_ms: int) -> None:
        again = partial(self._dial_lost, node, life, number, pause_ms)
        self._clock.after(pause_ms, again)

    def _dial_lost(self, node: Node, life: int, number: int, pause_ms: int) -> None:
        is_seed = number < self._scene.plan.seeds and not node.seeds.is_left(number)
        is_wanted = number in node.outbound or is_seed
        if node.life == life and node.is_up and is_wanted and number not in node.links:
            self.dial(node, number, partial(self._lost_dialled, node, number, pause_ms))

    def _lost_dialled(self, node: Node, number: int, pause_ms: int, reached: bool) -> None:  # noqa: FBT001 - a callback
        if number in node.links:
            return
        if reached:
            self.join(node, self._nodes[number])
        else:
            longer_ms = min(2 * pause_ms, REDIAL_LONGEST_MS)
            self._redial(node, node.life, number, longer_ms)

    def _give_up(self, node: Node, life: int, number: int) -> None:
        if node.life != life or number in node.links or number not in node.outbound:
            return
        text = node.outbound.pop(number).place.text
        node.book.failed(text, now_ms=self._scene.wall_ms, counted=bool(node.links))
        self.fill(node)

    # -- links of the quota

    def _look(self, node: Node, life: int) -> None:
        if node.life != life or not node.is_up:
            return
        self.fill(node)
        self._look_at_seeds(node)
        if self._scene.plan.guard and (dial := self._feeler(node)):
            self._begin(node, dial)
        self._clock.after(LOOK_MS, partial(self._look, node, life))

    def fill(self, node: Node) -> None:
        """Dial until the quota is full, a few at a time."""
        assert node.selection is not None
        while node.is_up and len(node.dialling) < DIALS_MAX:
            if len(node.outbound) + len(node.dialling) >= node.selection.quota:
                return
            dial = self._choose(node) if self._scene.plan.guard else self._any(node)
            if dial is None:
                return
            self._begin(node, dial)

    def _links(self, node: Node) -> tuple[Outbound, ...]:
        now_ms = self._scene.wall_ms
        begun = [_outbound(dial, now_ms) for dial in node.dialling.values() if dial.is_kept]
        return (*node.outbound.values(), *begun)

    def _choose(self, node: Node) -> Dial | None:
        assert node.selection is not None
        return node.selection.next_dial(
            self._links(node), barred=self._barred(node), now_ms=self._scene.wall_ms
        )

    def _feeler(self, node: Node) -> Dial | None:
        assert node.selection is not None
        return node.selection.next_feeler(
            self._links(node), barred=self._barred(node), now_ms=self._scene.wall_ms
        )

    def _any(self, node: Node) -> Dial | None:
        barred, now_ms = self._barred(node), self._scene.wall_ms
        able = [
            entry
            for entry in node.book
            if entry.place.peer not in barred and entry.is_ready(now_ms)
        ]
        if not able:
            return None
        entry = able[self._dice.randrange(len(able))]
        return Dial(entry.place, Slot.DRAWN, entry.kind, entry.region)

    def _barred(self, node: Node) -> frozenset[PeerId]:
        nodes = self._nodes
        numbers = (*node.links, *node.outbound, *range(self._scene.plan.seeds))
        return frozenset([nodes[number].peer for number in numbers] + list(node.dialling))

    def _begin(self, node: Node, dial: Dial) -> None:
        node.dialling[dial.place.peer] = dial
        number = self._scene.index.get(dial.place.peer, -1)
        self.dial(node, number, partial(self._ended, node, number, dial))

    def _ended(self, node: Node, number: int, dial: Dial, reached: bool) -> None:  # noqa: FBT001 - a callback
        del node.dialling[dial.place.peer]
        now_ms, text = self._scene.wall_ms, dial.place.text
        if not reached:
            node.book.failed(text, now_ms=now_ms, counted=bool(node.links))
        else:
            rtt_ms = 2 * self._scene.links.delay_ms(node.number, number)
            node.book.succeeded(text, now_ms=now_ms, rtt_ms=rtt_ms)
            if dial.is_kept:
                node.outbound[number] = _outbound(dial, now_ms)
                if number not in node.links:
                    self.join(node, self._nodes[number])
                node.book.set_anchors(choose_anchors(node.outbound.values()))
        self.fill(node)


def _outbound(dial: Dial, now_ms: int) -> Outbound:
    return Outbound(dial.place, dial.slot, dial.kind, now_ms, dial.region)
