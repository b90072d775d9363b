"""Pull repair between simulated nodes: drives the store and the plan of a real node.

Does for each node what node/peers/announce does for one: asks what the plan says, answers within
the shares it grants, keeps what comes. Must not know meshes or dials. Questions and answers travel
on kept streams; a deadline ends the wait.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Final, final

from prsm.node.net.records import Bounds, Item, Store, slot_of
from prsm.node.net.repair import AskListing, AskRecords, Repair
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import PULLED_RECORDS_BYTES_MAX
from prsm.protocol.messages.announce import MODELS, SUM_BYTES, Compare, Listing
from prsm.testnet.netsim.clock import QuickDice
from prsm.testnet.netsim.scene import Node, Scene

TOPIC: Final = MODELS
RECORDS_MAX: Final = 4096
RECORD_BYTES: Final = 300
CALL_DEADLINE_MS: Final = 2_000  # node/peers/announce
assert RECORD_BYTES < PULLED_RECORDS_BYTES_MAX

Accept = Callable[[Node, int, int], None]  # node, from whom, record
Blame = Callable[[Node, int, int], None]  # node, peer, points


@dataclass(frozen=True, slots=True)
class _Question:
    """A call on its way; `life` of the asker, and which of its calls."""

    ask: AskListing | AskRecords
    life: int
    call: int
    compare: Compare | None


@dataclass(frozen=True, slots=True)
class _Reply:
    """The answer of a call; None is a refusal."""

    question: _Question
    what: Listing | list[Item] | None


@final
class Repairs:
    """The pull repair of one run.

    Args:
        scene: nodes and links.
        accept: what a node does with a record that was pulled.
        blame: counts what a peer did wrong.
    """

    def __init__(self, scene: Scene, accept: Accept, blame: Blame) -> None:
        self._scene = scene
        self._nodes = scene.nodes
        self._clock = scene.clock
        self._accept = accept
        self._blame = blame
        self._items: list[Item] = []
        self._numbers: dict[bytes, int] = {}
        self._calls = 0
        self._open: dict[int, tuple[Node, _Question]] = {}
        self.compared = 0
        self.fetched = 0

    # -- a node's life

    def start(self, node: Node) -> None:
        """Give a node an empty store: what a real one held does not outlive its process either."""
        seed = f"{self._scene.plan.seed} repair {node.number} {node.life}"
        bounds = {TOPIC.name: Bounds(RECORDS_MAX, TOPIC.records_per_author)}
        node.store = Store(bounds, salt=sha256(seed.encode()).digest())
        now_ms = self._clock.now_ms
        node.repair = Repair(node.store, dice=QuickDice(seed).randrange, now_ms=now_ms)
        node.wake_ms = -1
        self._wake(node)

    def joined(self, node: Node, peer: int) -> None:
        """A peer may be asked from now on."""
        if node.repair is not None:
            node.repair.add(self._nodes[peer].peer, now_ms=self._clock.now_ms)
            self._wake(node)

    def left(self, node: Node, peer: int) -> None:
        """A peer is gone."""
        if node.repair is not None:
            node.repair.remove(self._nodes[peer].peer)

    def make(self, number: int, author: PeerId) -> None:
        """Make what a record is for the store."""
        made_ms = self._scene.wall_ms
        identity = sha256(f"record {number}".encode()).digest()[:SUM_BYTES]
        name = author.encode()
        item = Item(
            topic=TOPIC.name,
            author=sha256(name).digest(),
            made_ms=made_ms,
            expires_ms=made_ms + TOPIC.ttl_ms,
            slot=slot_of(TOPIC.name, name, number.to_bytes(4, "big")),
            id=identity,
            number=int.from_bytes(identity, "big"),
            raw=bytes(RECORD_BYTES),
        )
        self._numbers[item.slot] = number
        self._items.append(item)

    def keep(self, node: Node, number: int) -> None:
        """Let a node keep a record it has had for the first time."""
        if node.store is None or node.repair is None:
            return
        node.store.offer(self._items[number], now_ms=self._scene.wall_ms)
        node.repair.hear_news(now_ms=self._clock.now_ms)
        self._wake(node)

    # -- asking

    def _wake(self, node: Node) -> None:
        assert node.repair is not None
        now_ms = self._clock.now_ms
        due_ms = max(now_ms, node.repair.due_ms(now_ms=now_ms))
        if 0 <= node.wake_ms <= due_ms:
            return
        node.wake_ms = due_ms
        self._clock.after(due_ms - now_ms, partial(self._plan, node, node.life, due_ms))

    def _plan(self, node: Node, life: int, due_ms: int) -> None:
        if node.life != life or not node.is_up or node.wake_ms != due_ms:
            return
        node.wake_ms = -1
        assert node.repair is not None
        assert node.store is not None
        wall_ms = self._scene.wall_ms
        for ask in node.repair.plan(now_ms=self._clock.now_ms, wall_ms=wall_ms):
            compare: Compare | None = None
            if isinstance(ask, AskListing):
                self.compared += 1
                compare = node.store.compare(horizon_ms=ask.horizon_ms, cursor=ask.cursor)
            else:
                self.fetched += 1
            self._calls += 1
            question = _Question(ask, life, self._calls, compare)
            self._open[self._calls] = node, question
            peer = self._scene.index[ask.peer]
            self._scene.links.stream(self._on_question, peer, node.number, question)
            self._clock.after(CALL_DEADLINE_MS, partial(self._give_up, self._calls))
        self._wake(node)

    def _give_up(self, call: int) -> None:
        waiting = self._open.pop(call, None)
        if waiting is None:
            return
        node, question = waiting
        if node.life == question.life and node.repair is not None:
            silent = isinstance(question.ask, AskListing)
            points = node.repair.fail(question.ask, now_ms=self._clock.now_ms, silent=silent)
            self._wake(node)
            if points:
                self._blame(node, self._scene.index[question.ask.peer], points)

    # -- answering

    def _on_question(self, receiver: int, sender: int, question: object) -> None:
        node = self._nodes[receiver]
        assert isinstance(question, _Question)
        if sender not in node.links or node.store is None or node.repair is None:
            return
        asker, now_ms = self._nodes[sender].peer, self._clock.now_ms
        what: Listing | list[Item] | None = None
        if question.compare is not None:
            if node.repair.may_compare(asker, now_ms=now_ms):
                what = node.store.differing(question.compare)
        elif node.repair.may_fetch(asker, now_ms=now_ms):
            assert isinstance(question.ask, AskRecords)
            what = node.store.pick(question.ask.slots)
        self._scene.links.stream(self._on_reply, sender, receiver, _Reply(question, what))

    def _on_reply(self, _: int, sender: int, reply: object) -> None:
        assert isinstance(reply, _Reply)
        question, what = reply.question, reply.what
        waiting = self._open.pop(question.call, None)
        if waiting is None:
            return
        node, now_ms = waiting[0], self._clock.now_ms
        if node.life != question.life or not node.is_up or node.repair is None:
            return
        if what is not None:
            node.service.note(question.ask.peer, now_ms=now_ms)
        if what is None:
            node.repair.fail(question.ask, now_ms=now_ms)
        elif isinstance(what, Listing):
            self._compared(node, sender, question, what)
        else:
            assert isinstance(question.ask, AskRecords)
            for item in what:
                self._accept(node, sender, self._numbers[item.slot])
            slots = question.ask.slots
            node.repair.take_records(question.ask.peer, slots, brought=len(what), now_ms=now_ms)
        self._wake(node)

    def _compared(self, node: Node, sender: int, question: _Question, listing: Listing) -> None:
        """Note what the peer has, and tell it what it lacks."""
        assert isinstance(question.ask, AskListing)
        assert node.repair is not None
        assert node.store is not None
        now_ms = self._clock.now_ms
        node.repair.take_listing(question.ask.peer, listing.entries, now_ms=now_ms)
        surplus = node.store.surplus(listing, horizon_ms=question.ask.horizon_ms)
        if surplus is not None:
            self._scene.links.stream(self._on_surplus, sender, node.number, surplus)

    def _on_surplus(self, receiver: int, sender: int, listing: object) -> None:
        node = self._nodes[receiver]
        assert isinstance(listing, Listing)
        peer, now_ms = self._nodes[sender].peer, self._clock.now_ms
        if sender not in node.links or node.repair is None:
            return
        if node.repair.may_compare(peer, now_ms=now_ms):
            node.repair.hear_listing(peer, listing.entries, now_ms=now_ms)
            self._wake(node)
