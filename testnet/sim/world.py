"""One seed, one run: a network under faults, then healed, then held to its promise to go on.

One thread, one `Random`, virtual milliseconds: the same seed and code give the same run.
Source: docs/spec/pbft.md, "Simulation".
"""

from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Final, final

from prsm.consensus.pbft.config import Config
from prsm.consensus.pbft.events import Event, Received
from prsm.consensus.pbft.inbox import is_late
from prsm.consensus.pbft.opened import Opened
from prsm.protocol.codec import Record
from prsm.protocol.headers import Block
from prsm.protocol.messages.consensus import SignedMessage
from prsm.testnet.sim.book import Book
from prsm.testnet.sim.checker import Checker
from prsm.testnet.sim.clients import Clients, allocations_of
from prsm.testnet.sim.clock import Timeline
from prsm.testnet.sim.invariants import Invariant
from prsm.testnet.sim.keys import keys_of
from prsm.testnet.sim.ledger import Chain, FakeLedger
from prsm.testnet.sim.liars import Liars
from prsm.testnet.sim.log import DiskLog, ListLog
from prsm.testnet.sim.money import MoneyLedger
from prsm.testnet.sim.network import HEALED_JITTER_MS, Network
from prsm.testnet.sim.node import Node
from prsm.testnet.sim.operators import Operators
from prsm.testnet.sim.plan import DRIP, Plan, draw
from prsm.testnet.sim.roster import Roster, genesis_of, members_of
from prsm.testnet.sim.snapshots import Shelf
from prsm.testnet.sim.trouble import Trouble
from prsm.testnet.sim.witness import Punishment

HEALED_BLOCKS: Final = 3  # every honest node must execute this many more
HEAL_CAPS: Final = 2  # what is left of the present timeout, and of the next
BLOCK_DELAYS: Final = 4  # payload, PROPOSE, PREPARE, COMMIT
# Who is a block behind hears it by the next STATUS (500 ms) and asks after 300 ms.
CATCH_UP_MS: Final = 800
# Who is further behind takes a snapshot first: proofs by liars are refused one after the other.
SNAPSHOT_MS: Final = 1_500
DRIP_MS: Final = 1_000  # and whose answer does not come in that time is asked no more
LATE_MS: Final = 10  # that a vote for which it is too late waits to be checked
EVENTS_MAX: Final = 400_000  # the largest of 800,000 seeds had 103,006: twelve nodes, 73 blocks


def heal_ms_max(plan: Plan) -> int:
    """How long after healing the last honest node may need for `HEALED_BLOCKS` more blocks.

    Each silent proposer costs one timeout more.
    """
    parameters = plan.parameters
    low, high = plan.delay_ms
    # A driver may be in the middle of a turn when a message comes, and when a timeout is over.
    delay_ms = min(high, low + HEALED_JITTER_MS) + plan.turn_ms
    caps = HEAL_CAPS + len(plan.liars)
    block_ms = BLOCK_DELAYS * delay_ms + parameters.block_gap_min_ms
    taken_ms = SNAPSHOT_MS if plan.snapshot_every else 0
    taken_ms += DRIP_MS * len(plan.liars) if DRIP in plan.scripts else 0
    return (
        caps * (parameters.timeout_cap_ms + 2 * plan.turn_ms)
        + HEALED_BLOCKS * block_ms
        + CATCH_UP_MS
        + taken_ms
    )


@dataclass(slots=True)
class Outcome:
    """What became of a seed."""

    seed: int
    events: int
    height: int  # lowest of the honest nodes
    virtual_ms: int
    heal_ms: int | None  # None: not live
    violations: list[str]
    trace: list[str] = field(default_factory=list)


def run(seed: int, *, traced: bool = False) -> Outcome:
    """Play one seed; `traced` keeps one line for each event a core takes."""
    return World(draw(seed), traced=traced).play()


@final
class World:
    """Everything of one run."""

    def __init__(self, plan: Plan, *, traced: bool = False) -> None:
        self.plan = plan
        self.dice = Random(plan.seed + 1)
        self.timeline = Timeline()
        self.network = Network(plan, self.dice, self.timeline, self._deliver)
        made = keys_of(plan)
        keys, accounts, owners, verifier = made.nodes, made.accounts, made.operators, made.verifier
        owned = allocations_of(accounts, owners) if accounts else ()
        genesis = self.genesis = genesis_of(plan, keys, owned, owners)
        self.roster = self.network.roster = Roster(genesis, keys)
        self.network.chain_id = genesis.chain_id
        self.network.verifier = verifier
        self.checker = Checker(plan, genesis.chain_id, self.roster, verifier)
        self.punishment = Punishment(
            self.roster,
            self.checker.report,
            self.checker.is_honest,
            unbonding_ms=plan.parameters.unbonding_ms,
        )
        self.clients = Clients(accounts, genesis, self.dice) if accounts else None
        self.operators = (
            Operators(plan, genesis, owners, keys, self.dice) if plan.has_operators else None
        )
        self.book = Book(
            genesis,
            verifier,
            partial(self.checker.report, Invariant.TRANSACTIONS),
            operators=tuple(owner.public_key for owner in owners),
        )
        count = len(keys)
        group = frozenset(self.dice.sample(range(count), count // 2))
        if len(plan.liars) * 2 >= count:
            group = frozenset({count - 1})
        scripts = (*plan.scripts, "invalid") if accounts and plan.seed % 2 else plan.scripts
        self.liars = Liars(scripts, self.dice, genesis.chain_id, group)
        self.outstanding: dict[bytes, int] = {}  # when each was submitted
        self.latencies_ms: list[int] = []  # from then to the first ledger that has it
        self.lines: list[str] = []
        self.is_traced = traced
        self._submitted = 0
        self._has_grown = False  # since it was looked at last
        borders = {
            plan.epoch_heights * (1 + number): members_of(seats, keys)
            for number, seats in enumerate(plan.later)
        }
        self.nodes = [
            Node(
                self,
                index,
                Config.of(genesis, signers=own, verifier=verifier),
                MoneyLedger(genesis, verifier)
                if plan.has_money
                else FakeLedger(genesis, borders=borders),
                DiskLog(plan.seed * 64 + index) if plan.on_disk else ListLog(self.dice),
                skew_ms=self.dice.choice((-3_600_000, 3_600_000)) if index in plan.skewed else 0,
                shelf=Shelf(plan.snapshot_every) if plan.snapshot_every else None,
            )
            for index, own in enumerate(keys)
        ]
        self._honest = [node for node in self.nodes if self.checker.is_honest(node.index)]

    def play(self) -> Outcome:
        """Run the faulty phase, heal, and wait until the network goes on."""
        for node in self.nodes:
            node.boot()
        Trouble(self).schedule()
        self._client()
        self._operate()
        violations = self.checker.violations
        self.timeline.play(self.plan.faults_ms, violations)
        healed_at = self._heal()
        heal_ms: int | None = None
        goal = self._highest() + HEALED_BLOCKS
        until_ms = healed_at + heal_ms_max(self.plan)
        while not violations and self.timeline.step(until_ms):
            if self._has_grown and self._lowest() >= goal:
                heal_ms = self.timeline.now_ms - healed_at
                break
            self._has_grown = False
            if self.timeline.events > EVENTS_MAX:
                self.checker.report(
                    Invariant.MEMORY, f"more than {EVENTS_MAX} events: the run feeds itself"
                )
        return Outcome(
            seed=self.plan.seed,
            events=self.timeline.events,
            height=self._lowest(),
            virtual_ms=self.timeline.now_ms,
            heal_ms=heal_ms,
            violations=violations,
            trace=self.lines,
        )

    def speak(self, node: Node, message: SignedMessage, to: int | None) -> None:
        """A node lets a message leave, to one node or to all others."""
        receivers = [i for i in range(len(self.nodes)) if i != node.index] if to is None else [to]
        if node.index in self.plan.liars:
            self.liars.speak(node, message, receivers)
            return
        opened = self.network.admit(message)
        if opened is None:
            what = f"honest node {node.index} sent what nobody admits"
            self.checker.report(Invariant.HONEST_KEYS, what)
            return
        if self.roster.node_of(message.epoch, message.signer) == node.index:
            self.checker.sent(node.index, opened, is_renewed=node.log.is_renewed)
            if node.log.is_silent:
                what = f"node {node.index} was told of a vote it forgot, and signs again"
                self.checker.report(Invariant.HONEST_KEYS, what)
        self.network.spread(node.index, receivers, opened)

    def goes_on(self, node: Node) -> bool:
        """Does a node sign on that was shown what its log lacks? A liar said it beside its core."""
        return node.index in self.plan.liars and self.liars.go_on(node)

    def post(self, sender: int, receiver: int, record: Record) -> None:
        """A node sends a status, a call or an answer."""
        late_ms = 0
        if sender in self.plan.liars:
            record, late_ms = self.liars.hand_over(record)
        if late_ms:
            self.timeline.after(late_ms, partial(self.network.send, sender, receiver, record))
        else:
            self.network.send(sender, receiver, record)

    def die(self, node: Node) -> None:
        """Crash a node now; it comes back later."""
        if node.state is None:
            return
        node.crash()
        if node.index == self.plan.forgetful:
            node.ledger.forget(self.dice.randint(0, 3))
        self.wake_later(node)

    def wake_later(self, node: Node) -> None:
        """Start a node again after a while, or at the healing."""
        self.timeline.after(self.dice.randint(20, 1_200), partial(self._wake, node))

    def applied(self, node: int, block: Block, ledger: Chain) -> None:
        """A node's ledger executed a block."""
        height = block.header.height
        self._has_grown = True
        self.checker.applied(node, height, ledger.roots[-1])
        if self.checker.is_honest(node) and (wrong := self.roster.note(ledger.tip)):
            self.checker.report(Invariant.CERTIFICATES, f"node {node}: {wrong}")
        if isinstance(ledger, MoneyLedger) and self.checker.is_honest(node):
            self.book.enter(block)
            self.punishment.enter(block)
            self.book.compare(node, height, ledger.ledger)
            self._look_at_sets(node, ledger)
        for transaction in block.body.transactions:
            submitted_ms = self.outstanding.pop(transaction, None)
            if submitted_ms is not None:
                self.latencies_ms.append(self.timeline.now_ms - submitted_ms)

    def installed(self, node: int, ledger: MoneyLedger) -> None:
        """A node's ledger became another one, of a snapshot."""
        self._has_grown = True
        tip = ledger.tip
        self.checker.applied(node, tip.height, (tip.state_root, tip.receipts_root))
        if not self.checker.is_honest(node):
            return
        if wrong := self.roster.note(tip):
            self.checker.report(Invariant.CERTIFICATES, f"node {node}: {wrong}")
        self.book.compare(node, tip.height, ledger.ledger)
        self._look_at_sets(node, ledger)

    def trace(self, node: int, event: Event) -> None:
        """Note what a core is about to take, in a run that is traced."""
        text = type(event).__name__
        if isinstance(event, Received):
            message = event.message.message
            text = f"{message.kind.name} {message.height}/{message.view} of {message.signer}"
            text += f" {event.message.digest.hex()[:8]}"
        self.lines.append(f"{self.timeline.now_ms} {node} {text}")

    def _deliver(self, sender: int, receiver: int, what: Opened | Record) -> None:
        node = self.nodes[receiver]
        if node.state is None:
            return
        if not isinstance(what, Opened):
            node.receive(sender, what)
            return
        if receiver in self.plan.liars:
            self.liars.overhear(node, what)
        if self.plan.turn_ms and is_late(node.state, what.message):
            node.later(LATE_MS, partial(node.take, Received(what)))  # as node/chain/votes does
        else:
            node.take(Received(what))

    def _wake(self, node: Node) -> None:
        if node.state is None:
            node.boot()

    def _client(self) -> None:
        """Submit a transaction to every node, then another one later."""
        self._submitted += 1
        transaction, rival = b"t%d" % self._submitted, None
        if self.clients is not None:
            transaction, rival = self.clients.order(self.timeline.now_ms)
        self.outstanding[transaction] = self.timeline.now_ms
        for node in self.nodes:
            if rival is not None and self.dice.random() < 0.5:
                self.timeline.after(self.dice.randint(0, 5), partial(node.submit, rival))
            self.timeline.after(self.dice.randint(0, 10), partial(node.submit, transaction))
        self.timeline.after(self.dice.randint(20, 500), self._client)

    def _look_at_sets(self, node: int, ledger: MoneyLedger) -> None:
        """Is the stake of both sets bonded, but for what was taken from it?"""
        if self.operators is None:
            return
        guilty = frozenset(who for who, _, _ in self.punishment.punished)
        for known in (ledger.tip.epoch.validators, ledger.tip.epoch.following):
            wrong = self.operators.wrong_in(known, ledger.ledger.view, guilty)
            if wrong:
                what = f"node {node}, epoch {known.epoch}: {wrong}"
                self.checker.report(Invariant.CERTIFICATES, what)

    def _operate(self) -> None:
        """Submit what an operator asks for, then more later."""
        if self.operators is None:
            return
        order = self.operators.order(self.timeline.now_ms)
        self.outstanding[order] = self.timeline.now_ms
        for node in self.nodes:
            self.timeline.after(self.dice.randint(0, 10), partial(node.submit, order))
        self.timeline.after(self.dice.randint(40, 200), self._operate)

    def _heal(self) -> int:
        """End all faults: links whole, everybody up."""
        self.network.is_faulty = False
        self.network.cut.clear()
        now_ms = self.timeline.now_ms
        for node in self.nodes:
            node.orders_left = None
            node.skew_ms = 0
            if isinstance(node.log, DiskLog):
                node.log.mend()
            node.paused_until_ms = min(node.paused_until_ms, now_ms)
            self._wake(node)
        return now_ms

    def _lowest(self) -> int:
        return min([node.ledger.tip.height for node in self._honest])

    def _highest(self) -> int:
        return max([node.ledger.tip.height for node in self._honest])
