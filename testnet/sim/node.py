"""One node of a run: the real core, its durable things, and the orders carried out one by one.

A crash can come between any two orders of a list; a restart finds what was synced. Knows: the
driver's rules. Must not know: who lies (testnet/sim/liars rewrites what a liar sends).
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from prsm.consensus.pbft import heights, replica, statuses
from prsm.consensus.pbft.config import Config
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
    Draft,
    Event,
    Heard,
    Installed,
    Payload,
    Resumed,
    Tick,
    Verdict,
    Waiting,
)
from prsm.consensus.pbft.state import State
from prsm.protocol.codec import Record
from prsm.protocol.ed25519 import Signer
from prsm.protocol.messages.consensus import Accusation, Status
from prsm.protocol.messages.sync import GetBlockByHash, GetBlocks, GotBlock, GotBlocks
from prsm.storage.errors import Full, StoreUnavailable
from prsm.testnet.sim.ledger import Chain
from prsm.testnet.sim.log import Log
from prsm.testnet.sim.money import MoneyLedger
from prsm.testnet.sim.plan import index_of, peer_of
from prsm.testnet.sim.snapshots import LOOK_MS, Shelf, Snapshots
from prsm.testnet.sim.sync import Sync
from prsm.testnet.sim.witness import Witness

if TYPE_CHECKING:
    from prsm.testnet.sim.world import World

TICK_MS: Final = 250
STATUS_MS: Final = 500
DRAFT_MAX: Final = 4
_OWN: Final = (Payload, Verdict, Applied, Installed, Resumed)  # answers: a driver takes them first


@dataclass(slots=True)
class Node:
    """A node that may be up, paused or down."""

    world: "World"
    index: int
    config: Config
    ledger: Chain
    log: Log
    skew_ms: int = 0
    state: State | None = None  # None: down
    life: int = 0  # things asked for in an earlier life never arrive
    pool: dict[bytes, None] = field(default_factory=dict)
    shelf: Shelf | None = None  # of its snapshots; None: it makes and takes none
    sync: Sync = field(init=False)
    snapshots: Snapshots | None = field(init=False)
    witness: Witness = field(init=False)
    timer_ms: int | None = None
    orders_left: int | None = None  # carried out before the crash that is coming
    lost: str | None = None  # why the next start finds a ledger that was begun afresh
    written: int = 0  # records, into the present segment of the log
    paused_until_ms: int = 0
    waiting: list[Event] = field(default_factory=list)  # for the next turn

    def __post_init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        """Remember nothing of an earlier life."""
        self.waiting.clear()
        self.sync, self.witness = Sync(self), Witness(self)
        self.snapshots = None if self.shelf is None else Snapshots(self, self.shelf)

    def boot(self) -> None:
        """Start from what is durable."""
        world = self.world
        self.life += 1
        self.orders_left, self.timer_ms, self.written = None, None, 0
        self._begin()
        lost, self.lost = self.lost, None
        try:
            found = self.log.open(self.ledger.tip.height, lost)
        except (Full, StoreUnavailable):
            self.log.crash()
            world.wake_later(self)
            return
        if found.observer is not None:
            world.checker.observed(self.index, found.observer)
        for record in found.records:
            world.checker.synced(self.index, record)
        self.state = replica.start(
            self.config,
            self.ledger.tip,
            found.records,
            found.observer,
            voted=found.spoken_of,
        )
        self.pool = dict.fromkeys(filter(self.ledger.is_open, world.outstanding))
        self._soon(0, Tick())
        self._soon(0, Waiting(bool(self.pool)))
        self._repeat(world.dice.randrange(TICK_MS), TICK_MS, lambda: self.take(Tick()))
        self._repeat(world.dice.randrange(50), STATUS_MS, self._send_status)
        if self.snapshots is not None:
            self._repeat(world.dice.randrange(LOOK_MS), LOOK_MS, self.snapshots.look)

    def crash(self) -> None:
        """Lose everything that is not durable."""
        self.state = None
        self.log.crash()
        if self.shelf is not None:
            self.shelf.crash()
        self.world.checker.ranges.pop(self.index, None)
        self.world.punishment.dropped(self.index)
        self.life += 1
        self.orders_left = None

    def take(self, event: Event) -> None:
        """Let the core take one event, then do what it orders."""
        world, state = self.world, self.state
        if state is None:
            return
        now_ms = world.timeline.now_ms
        if now_ms < self.paused_until_ms:
            self._soon(self.paused_until_ms - now_ms, event)
            return
        if not world.plan.turn_ms or isinstance(event, _OWN):
            self._turn(state, (event,))
            return
        self.waiting.append(event)
        if len(self.waiting) == 1:
            self.later(world.dice.randint(0, world.plan.turn_ms), self._take_waiting)

    def _take_waiting(self) -> None:
        """Take what came since the last turn, together: as node/chain/driver does."""
        pause_ms = self.paused_until_ms - self.world.timeline.now_ms
        if pause_ms > 0:
            self.later(pause_ms, self._take_waiting)
            return
        events, self.waiting = self.waiting, []
        assert self.state is not None
        self._turn(self.state, events)

    def _turn(self, state: State, events: Sequence[Event]) -> None:
        """Step through events, then do all they order: one write of records for them all."""
        world, now_ms = self.world, self.world.timeline.now_ms
        coming, effects = deque(events), list[Effect]()
        while coming:
            event = coming.popleft()
            if world.is_traced:
                world.trace(self.index, event)
            for effect in replica.step(state, event, now_ms):
                answer = self._answer(effect) if world.plan.turn_ms else None
                if answer is None:
                    effects.append(effect)
                else:
                    coming.appendleft(answer)
        if effects:
            self._perform(effects)
            if 0 < world.plan.turn_records <= self.written:
                self._begin_segment()
        if self.state is not None:
            world.checker.bounded(self.index, self.state)

    def _answer(self, effect: Effect) -> Event | None:
        """What a driver answers within the turn: a short draft or verdict."""
        match effect:
            case NeedPayload(height, view):
                return Payload(height, view, self._draft())
            case Validate(block, digest):
                return Verdict(digest, self.ledger.judge(block, self.wall_ms()))
            case _:
                return None

    def submit(self, transaction: bytes) -> None:
        """A client's transaction reaches the mempool."""
        if self.state is None or not self.ledger.is_open(transaction):
            return
        self.pool[transaction] = None
        self.take(Waiting(transactions=True))

    def receive(self, sender: int, what: Record) -> None:
        """Something arrived from another node that is no message of a validator."""
        if self.state is None:
            return
        match what:
            case Status():
                self.take(Heard(peer_of(sender), what))
                if self.snapshots is not None:
                    self.snapshots.hear(sender, what)
            case GetBlocks() | GetBlockByHash():
                self.sync.serve(sender, what)
            case GotBlocks():
                self.sync.receive(sender, what)
            case Accusation(evidence):
                self.witness.hear(evidence)
            case GotBlock():
                self.sync.take_body(what)
            case _ if self.snapshots is not None:
                self.snapshots.receive(sender, what)
            case _:
                pass

    def signer_in(self, epoch: int) -> Signer:
        """The key it signs with in an epoch, or its first one, with which nobody believes it."""
        place = self.world.roster.place_of(epoch, self.index)
        return self.config.signers[0] if place is None else place[1]

    def _perform(self, effects: list[Effect]) -> None:
        for group in order(effects):
            if group.records:
                if self._dies(partial(self.log.append_cut, group.records)):
                    return
                if not self._is_written(partial(self.log.append, group.records)):
                    return
                self.written += len(group.records)
                for record in group.records:
                    self.world.checker.synced(self.index, record)
            for effect in group.effects:
                if self._dies():
                    return
                self._do(effect)
                if self.state is None:  # the disk refused
                    return

    def _is_written(self, write: Callable[[], None]) -> bool:
        """Write to the disk; if it refuses, the process ends and is started again."""
        try:
            write()
        except (Full, StoreUnavailable):
            self.world.die(self)
            return False
        return True

    def _begin_segment(self) -> None:
        """Begin one between two steps, as node/chain/driver does once the present one is long."""
        if self.state is None:
            return
        self.written = 0
        low, keep = self.state.tip.height, heights.checkpoint(self.state)
        if not self._dies(partial(self.log.rotate_cut, low, keep)):
            self._is_written(partial(self.log.rotate, low, keep))

    def _dies(self, cut: Callable[[], None] | None = None) -> bool:
        """Is this where the coming crash comes? Then a write is cut off in the middle."""
        if self.orders_left is None:
            return False
        self.orders_left -= 1
        if self.orders_left >= 0:
            return False
        if cut is not None:
            cut()
        self.world.die(self)
        return True

    def _do(self, effect: Effect) -> None:  # noqa: C901 - dispatch
        world = self.world
        match effect:
            case Broadcast(message):
                world.speak(self, message, None)
            case SetTimer(at_ms):
                self._set_timer(at_ms)
            case Send(peer, message):
                world.speak(self, message, index_of(peer))
            case NeedPayload() | Validate():
                answer = self._answer(effect)
                assert answer is not None
                self._soon(world.dice.randint(0, 3), answer)
            case Execute():
                world.checker.executed(self.index, effect.block, effect.certificate)
                self.later(world.dice.randint(0, 8), lambda: self._apply(effect))
            case Fetch():
                world.checker.fetched(self.index, effect, world.timeline.now_ms)
                self.sync.ask(effect)
            case Accuse():
                world.checker.accused(self.index, effect)
                self.witness.accuse(effect)
            case Observe(reason, forgot):
                world.checker.observed(self.index, reason)
                if forgot and not world.goes_on(self):
                    self._is_written(partial(self.log.forbid, reason))
            case Resume(height):
                assert self.state is not None
                kept = heights.surviving(self.state, height - 1)
                renew = partial(self.log.renew, height - 1, kept)
                if self._is_written(renew):
                    self._soon(0, Resumed(height))
            case Persist():  # in a step of their own
                raise AssertionError

    def _draft(self) -> Draft:
        """As node/chain/driver does: what can run at the time the block will have."""
        block = self.ledger.tip.block
        parent_ms = 0 if block is None else block.header.time_ms
        time_ms = max(parent_ms + 1, self.wall_ms())
        own = self.state.instance.own if self.state is not None else None
        evidence = self.ledger.convicting(
            self.witness.waiting, time_ms=time_ms, proposer=0 if own is None else own
        )
        chosen = self.ledger.choose(self.pool, time_ms=time_ms, count=DRAFT_MAX)
        return Draft(chosen, evidence, time_ms)

    def _apply(self, effect: Execute) -> None:
        """Execute in one transaction, after which everything of it is durable."""
        state = self.state
        if state is None:
            return
        world, ledger = self.world, self.ledger
        ledger.apply(effect.block, effect.certificate)
        if self.shelf is not None and isinstance(ledger, MoneyLedger):
            self.shelf.note(ledger)
        height = effect.block.header.height
        world.applied(self.index, effect.block, ledger)
        self.pool = dict.fromkeys(filter(ledger.is_open, self.pool))
        self.witness.settle()
        state_root, receipts_root = ledger.roots[-1]
        tip = ledger.tip
        every = world.plan.checkpoint_every
        is_due = every > 0 and height % every == 0
        if is_due and height % 2:  # as node/chain/driver does: between Execute and Applied
            write = partial(self.log.rotate, height, heights.surviving(state, height))
            if not self._is_written(write):
                return
        self.take(Waiting(bool(self.pool or self.witness.waiting)))
        self.take(Applied(height, effect.block_hash, state_root, receipts_root, tip.epoch))
        if is_due and height % 2 == 0 and self.state is not None:
            self._is_written(partial(self.log.rotate, height, heights.checkpoint(self.state)))
        self.sync.go_on()

    def _set_timer(self, at_ms: int) -> None:
        self.timer_ms = at_ms

        def fire() -> None:
            if self.timer_ms == at_ms:
                self.timer_ms = None
                self.take(Tick())

        self.later(max(0, at_ms - self.world.timeline.now_ms), fire)

    def _send_status(self) -> None:
        state = self.state
        assert state is not None
        held = (0 if self.shelf is None else self.shelf.latest, self.ledger.first)
        for peer in range(len(self.world.nodes)):
            if peer != self.index:
                self.world.post(self.index, peer, statuses.status_for(state, peer_of(peer), held))

    def wall_ms(self) -> int:
        """What its clock shows."""
        return self.world.timeline.now_ms + self.skew_ms + 1

    def _soon(self, delay_ms: int, event: Event) -> None:
        self.later(delay_ms, lambda: self.take(event))

    def later(self, delay_ms: int, action: Callable[[], None]) -> None:
        """Do something then, unless this life has ended."""
        life = self.life

        def arrive() -> None:
            if self.life == life:
                action()

        self.world.timeline.after(delay_ms, arrive)

    def _repeat(self, first_ms: int, every_ms: int, action: Callable[[], None]) -> None:
        life = self.life

        def again() -> None:
            if self.life == life:
                action()
                if self.life == life:
                    self.world.timeline.after(every_ms, again)

        self.world.timeline.after(first_ms, again)
