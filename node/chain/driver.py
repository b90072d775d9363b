"""The machine's hands: it feeds events to the replica and carries its effects out, in order.

Knows: how an effect becomes a disk write, a message, a ledger call. Must not know: what a vote
means or what a transaction does. One task owns replica, ledger and log; others send it events.

Invariants: no effect leaves before every record in front of it is durable (`effects.order`); no
second step runs between a list of effects and its persistence; the ledger in memory moves only
after its block is durable.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import trio

from prsm.consensus.ledger.apply import Ledger
from prsm.consensus.ledger.errors import Diverged
from prsm.consensus.ledger.outcome import Outcome
from prsm.consensus.pbft import heights, replica
from prsm.consensus.pbft.effects import (
    Accuse,
    Broadcast,
    Effect,
    Execute,
    Fetch,
    NeedPayload,
    Observe,
    Persist,
    Resume,
    Send,
    SetTimer,
    Validate,
    order,
)
from prsm.consensus.pbft.events import (
    Applied,
    Event,
    Heard,
    Received,
    Resumed,
    Tick,
    Waiting,
)
from prsm.consensus.pbft.observer import has_halted, silence
from prsm.consensus.pbft.opened import Opened
from prsm.consensus.pbft.state import State
from prsm.node.chain.answers import Answers
from prsm.node.chain.checkpoints import Checkpoints
from prsm.node.chain.drafts import Drafts
from prsm.node.chain.evidence import Witness
from prsm.node.chain.herald import Herald
from prsm.node.chain.history import epoch_header_of, stored_block
from prsm.node.chain.mempool import Mempool
from prsm.node.chain.pace import Pace
from prsm.node.chain.signlog import SignLog
from prsm.node.chain.turns import in_turns
from prsm.node.clock import Clock
from prsm.node.net.interface import Channel, Incoming, Network
from prsm.node.telemetry import logs, metrics
from prsm.protocol.certificates import Certificate
from prsm.protocol.ed25519 import Signer
from prsm.protocol.headers import Block
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.consensus import SignedMessage, Status
from prsm.protocol.transactions.envelope import Transaction
from prsm.protocol.validators import ValidatorSet
from prsm.storage.errors import Conflict, Full, StoreUnavailable
from prsm.storage.ledger import LedgerStore

log = logs.get("driver")

EVENTS_WAITING_MAX: Final = 8_192
EVENTS_PER_TURN: Final = 256
DROPS_A_LINE: Final = 1_000  # a flood of events is not one of log lines
TICK_MS_MAX: Final = 250


@dataclass(frozen=True, slots=True)
class Head:
    """A block that is durable here, and what it did."""

    block: Block
    certificate: Certificate
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Hands:
    """What a driver works with; the composition root opens all of it."""

    ledger: Ledger
    store: LedgerStore
    signlog: SignLog | None  # None: this node has no consensus key
    network: Network
    mempool: Mempool
    clock: Clock


class Driver:
    """Runs one replica over a network, a log and a ledger."""

    def __init__(self, state: State, hands: Hands) -> None:
        self.state = state
        self.ledger = hands.ledger
        self.store = hands.store
        self.mempool = hands.mempool
        self.network = hands.network
        self.clock = hands.clock
        self.pace = Pace()
        self._failed = ""  # why the votes ended for good
        self.failure: Exception | None = None  # what ended them
        self.dropped = 0  # events for which the queue had no room
        self.held = (0, 1)  # for STATUS: height of the latest snapshot, first one of the blocks
        self._signlog = hands.signlog
        self._in, self._out = trio.open_memory_channel[Event](EVENTS_WAITING_MAX)
        self._own: deque[Event] = deque()
        self._timer_ms = self._tick_ms = 0  # the first: what the replica ordered, 0 for nothing
        self.herald = Herald(hands.network, lambda: self.deliver(Waiting(transactions=True)))
        self._checkpoints = Checkpoints(hands.store)
        self._head_changed = trio.Event()
        self.errand: Callable[[], Awaitable[Event]] | None = None  # once, between two turns
        self.on_durable: Callable[[int], Awaitable[None]] | None = None  # before the next block
        self.on_answer: list[Callable[[Head], None]] = []  # before the state tree is computed
        self.on_head: list[Callable[[Head], None]] = []
        self.on_step: list[Callable[[State, int], None]] = []  # told the monotonic ms too
        self.on_vote: list[Callable[[Opened], None]] = []  # of others, before it is judged
        self.on_fetch: Callable[[Fetch], None] = lambda _fetch: None
        self.on_status: Callable[[PeerId, Status], None] = lambda _peer, _status: None
        hands.network.on_message(Status, self._hear_status)
        self.drafts = Drafts(hands.ledger, hands.mempool, hands.clock)
        self._answers = Answers(
            state, ledger=hands.ledger, drafts=self.drafts, pace=self.pace, clock=hands.clock
        )
        self.witness = Witness(
            self.drafts.evidence,
            hands.network,
            lambda: self.validators,
            lambda: self.deliver(Waiting(transactions=True)),
        )

    @property
    def validators(self) -> ValidatorSet:
        """The set that agrees on the next block."""
        return self.ledger.validators(self.ledger.height + 1)

    @property
    def stopped(self) -> str:
        """Why this node votes no more, and until when; empty if it may vote."""
        return self._failed or silence(self.state)

    @property
    def is_halted(self) -> bool:
        """Does it take no more blocks either, its data kept for a person? An observer does."""
        return bool(self._failed) or has_halted(self.state)

    @property
    def can_vote(self) -> bool:
        """Does this node keep a log of its votes? A follower does not, whatever keys it has."""
        return self._signlog is not None

    def sign_with(self, signer: Signer) -> None:
        """Hold another consensus key; it signs in epochs whose set names it."""
        self.state.config = self.state.config.with_signer(signer)

    def validators_of(self, epoch: int) -> ValidatorSet | None:
        """The set of an epoch, None for one this node does not know."""
        state = self.ledger.epoch
        known = (state.validators, state.following, self.ledger.validators(self.ledger.height))
        return next((found for found in known if found.epoch == epoch), None)

    def _members_of(self, epoch: int) -> list[PeerId]:
        """Peers of an epoch's members; a message of mine is of an epoch that I know."""
        validators = self.validators_of(epoch)
        return [] if validators is None else [PeerId(v.peer_id) for v in validators.validators]

    def proposed(self, height: int, name: bytes) -> Block | None:
        """A block that is proposed here and not yet committed."""
        return replica.body(self.state, height, name)

    def deliver(self, event: Event) -> None:
        """Hand an event over; a full queue drops it, retransmission brings it back."""
        try:
            self._in.send_nowait(event)
        except trio.WouldBlock:
            self.dropped += 1
            if self.dropped % DROPS_A_LINE == 1:
                log.warning("events dropped", kind=type(event).__name__, dropped=self.dropped)

    async def deliver_waiting(self, event: Event) -> None:
        """Hand an event over, waiting for room: for blocks of a range, which nobody resends."""
        await self._in.send(event)

    def hear_vote(self, opened: Opened) -> None:
        """Take a vote whose signature holds."""
        for listener in self.on_vote:
            listener(opened)
        self.deliver(Received(opened))

    def hear_transaction(self, raw: bytes, transaction: Transaction) -> None:
        """Take a transaction whose signature holds.

        Raises:
            PrsmError: the mempool's refusal, or it is valid for too long.
        """
        now_ms = self.drafts.time_ms
        self.ledger.admission.check_time(transaction, time_ms=now_ms)
        was_idle = not self.mempool.has_ready
        self.mempool.add(raw, transaction, now_ms)
        if was_idle and self.mempool.has_ready:
            self.deliver(Waiting(transactions=True))

    async def wait_head(self) -> None:
        """Wait until another block is durable here."""
        await self._head_changed.wait()

    async def wait_height(self, height: int) -> None:
        """Wait until a height is durable here; the caller sets the deadline."""
        while self.ledger.height < height:
            await self._head_changed.wait()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Drive until cancelled; a disk that refuses stops the votes, not the node."""
        task_status.started()
        try:
            while True:
                await self._turn(await self._next_events())
        except (Conflict, Full, StoreUnavailable) as error:
            self._stop_voting(f"the disk refused a write: {error}", error)
        except Diverged as error:
            self._stop_voting(error.what, error)
        except Exception as error:  # a fault of ours ends the votes, never the node
            log.exception("consensus failed")
            self._stop_voting(f"a fault of this program: {type(error).__name__}: {error}", error)
        async for _ in self._out:  # or the queue fills up
            self._take_waiting([])

    def _stop_voting(self, why: str, cause: Exception) -> None:
        self._failed, self.failure = why, cause
        log.error("no more votes and no more blocks from this node", why=why)

    async def _next_events(self) -> list[Event]:
        events = list(self._own)
        self._own.clear()
        if not events:
            now = self.clock.monotonic_ms()
            due = min(self._timer_ms or self._tick_ms, self._tick_ms, self.herald.due_ms)
            with trio.move_on_after(max(0, due - now) / 1000):
                events.append(await self._out.receive())
        self._take_waiting(events)
        return events

    def _take_waiting(self, events: list[Event]) -> None:
        with suppress(trio.WouldBlock):
            while len(events) < EVENTS_PER_TURN:
                events.append(self._out.receive_nowait())

    async def _turn(self, events: list[Event]) -> None:
        now = self.clock.monotonic_ms()
        await self._checkpoints.make_due(is_idle=not events)
        # What was true when it was sent may be in a block by now.
        events = [event for event in events if not isinstance(event, Waiting)]
        self.mempool.drop_expired(self.drafts.time_ms)
        if (waiting := self.drafts.has_work) != self.state.waiting:
            events.append(Waiting(transactions=waiting))
        if self._is_tick_due(now):
            events.append(Tick())
        await self._carry_out(self._step_all(events, now))
        if self._signlog is not None and self._signlog.is_long:
            # A height may take thousands of views while a network is down; its log has an end.
            await self._signlog.forget(self.state.tip.height, heights.checkpoint(self.state))
        has_block = any(isinstance(event, Applied) for event in events)
        self.herald.tell(self.state, self.held, now_ms=now, has_block=has_block)
        if self.errand is not None and not self._own:
            errand, self.errand = self.errand, None
            self._own.append(await errand())
            self._wake_waiting()

    def _step_all(self, events: Iterable[Event], now_ms: int) -> list[Effect]:
        """Have the replica take events, and what it asks on the way where the answer is short.

        Nothing leaves in between: PROPOSE and PREPARE wait for one fdatasync, and leave together.
        """
        waiting = deque(events)
        effects: list[Effect] = []
        while waiting:
            for effect in replica.step(self.state, waiting.popleft(), now_ms):
                answer = self._answers.at_once(effect)
                if answer is None:
                    effects.append(effect)
                else:
                    waiting.appendleft(answer)
            for listener in self.on_step:
                listener(self.state, now_ms)
        return effects

    def _is_tick_due(self, now_ms: int) -> bool:
        """Resends and view changes need the time, however much else there is to hear."""
        if self._timer_ms and now_ms >= self._timer_ms:
            self._timer_ms = 0
        elif now_ms < self._tick_ms:
            return False
        self._tick_ms = now_ms + TICK_MS_MAX
        return True

    async def _carry_out(self, effects: list[Effect]) -> None:
        for group in order(effects):
            # A node without a consensus key signs nothing, so it has nothing to remember.
            if group.records and self._signlog is not None:
                await self._signlog.append(group.records)
            for effect in group.effects:
                await self._do(effect)

    async def _do(self, effect: Effect) -> None:  # noqa: C901 - dispatch
        match effect:
            case Broadcast(message=message):
                for peer in self._members_of(message.epoch):
                    self._send(peer, message)
            case Send(peer=name, message=message):
                self._send(PeerId(name), message)
            case NeedPayload() | Validate():
                self._own.append(await self._answers.in_thread(effect))
            case Execute():
                self._own.append(await self._execute(effect))
            case Fetch():
                self.on_fetch(effect)
            case Accuse():
                self.witness.accuse(effect)
            case SetTimer(at_ms=at_ms):
                self._timer_ms = at_ms
            case Observe(reason=reason, forgot=forgot):
                log.error("observer: this node signs nothing", why=reason)
                if forgot and self._signlog is not None:
                    await self._signlog.forbid(reason)
            case Resume(height=height):
                assert self._signlog is not None
                await self._signlog.renew(height, heights.surviving(self.state, height - 1))
                self._own.append(Resumed(height))
            case Persist():
                raise AssertionError("records are durable before their group's effects")

    def _send(self, peer: PeerId, message: SignedMessage) -> None:
        if peer != self.network.peer_id:
            self.network.send_nowait(peer, message, channel=Channel.CTL)

    async def _execute(self, decided: Execute) -> Applied:
        block = decided.block
        with trio.CancelScope(shield=True):
            known, apply = self.ledger.judged(decided.block_hash), self.ledger.apply
            outcome = known if known is not None else await trio.to_thread.run_sync(apply, block)
            await self.store.commit(
                stored_block(block, decided.certificate, outcome.receipts),
                changes=outcome.changes,
                tx_ids=outcome.tx_ids,
                epoch=epoch_header_of(self.ledger.epoch, block.header, decided.certificate),
            )
            self._checkpoints.note()
            tree = self.ledger.commit(outcome)
            head = Head(block, decided.certificate, outcome)
            for listener in self.on_answer:
                listener(head)
            await trio.lowlevel.checkpoint()  # what they sent leaves now
            await in_turns(tree)
            if self.on_durable is not None:
                await self.on_durable(block.header.height)
            if self._signlog is not None:
                height = block.header.height
                await self._signlog.forget(height, heights.surviving(self.state, height))
        self._after(head)
        return Applied(
            height=block.header.height,
            block_hash=decided.block_hash,
            state_root=self.ledger.state_root,
            receipts_root=self.ledger.receipts_root,
            epoch=self.ledger.epoch,
        )

    def _after(self, head: Head) -> None:
        tx_ids = head.outcome.tx_ids
        self.pace.note(len(tx_ids), head.certificate.view, self.clock.monotonic_ms())
        now_ms = self.drafts.time_ms
        for came_ms in self.mempool.drop_committed(tx_ids, head.outcome.senders):
            metrics.observe("prsm_tx_commit_duration_seconds", (now_ms - came_ms) / 1000)
        self.drafts.evidence.settle()
        for listener in self.on_head:
            listener(head)
        self._wake_waiting()

    def _wake_waiting(self) -> None:
        self._head_changed.set()
        self._head_changed = trio.Event()

    def _hear_status(self, incoming: Incoming) -> None:
        assert isinstance(incoming.message, Status)
        self.deliver(Heard(incoming.peer, incoming.message))
        self.on_status(incoming.peer, incoming.message)
