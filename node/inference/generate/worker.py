"""Generating sessions for peers: open against our own ledger, step, forget, make the receipt.

A session belongs to the peer that opened it and to its job and unit; nobody else reaches it. Room
for its cache is set aside when it is opened, and it is forgotten after a minute without a step.
Nothing a peer sends raises here beyond a typed answer. Must not know how a shard computes.
Source: docs/spec/work.md, "Generation".
"""

import logging
from contextlib import suppress
from typing import Final

import trio

from prsm.consensus.ledger.records import Job
from prsm.node.inference.claims import Claim
from prsm.node.inference.desk import Desk
from prsm.node.inference.evidence import Place
from prsm.node.inference.generate.held import Held, HeldKey, Room
from prsm.node.inference.interface import JobClosed, PolicyRefused, UnitIncomplete, WorkRefused
from prsm.node.inference.terms import Terms, check_terms, facts_of, find_shard, wait_lock
from prsm.node.net.interface import Answer, Busy, Incoming
from prsm.node.telemetry import traces
from prsm.protocol.errors import BadSignature, PrsmError, WireError
from prsm.protocol.generating import kv_shape
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.audit import Side
from prsm.protocol.messages.generation import (
    AskStep,
    EndSession,
    FinishSession,
    OpenSession,
    StepDone,
    session_statement,
)
from prsm.protocol.messages.pipe import InputMismatch, WorkerFailed
from prsm.protocol.messages.steps import Step
from prsm.protocol.messages.work import Open, ShownReceipt
from prsm.protocol.receipts import Feed, WorkKind, is_fed
from prsm.protocol.tensors import Tensor

SWEEP_S: Final = 1.0
ENDED_MAX: Final = 256  # whose receipt may still be asked for; of more, the oldest are claimed
_DROP_S: Final = 5.0

log = logging.getLogger(__name__)


class UnknownSession(WorkRefused):
    """This peer has no such session open here: it ended, was idle too long, or never began."""

    reason = "unknown_session"


class Sessions:
    """Works on generating units of peers' jobs."""

    def __init__(self, desk: Desk, terms: Terms, room: Room | None = None) -> None:
        self._desk, self._terms, self._room = desk, terms, room or Room()
        self._held: dict[HeldKey, Held] = {}
        self._ended: dict[HeldKey, Held] = {}  # only to be finished
        self._opening: set[HeldKey] = set()
        self._numbers = 0
        self._nursery: trio.Nursery | None = None
        desk.claims.engagements.add(self._engaged)
        desk.hold(self)
        desk.network.on_call(OpenSession, self._open)
        desk.network.on_call(AskStep, self._step)
        desk.network.on_call(FinishSession, self._finish)
        desk.network.on_message(EndSession, self._end)

    @property
    def count(self) -> int:
        """Sessions that are open now."""
        return len(self._held)

    def _engaged(self) -> set[tuple[bytes, int]]:
        """Units that are open, or ended and not claimed yet."""
        return {key[1:] for key in (*self._opening, *self._held, *self._ended)}

    def held(self) -> list[PeerId]:
        """Whose sessions are open here, or ended and not claimed yet: one entry for each."""
        ended = [held for held in self._ended.values() if not held.is_bound]
        return [held.peer for held in (*self._held.values(), *ended)]

    def end(self) -> None:
        """Close all sessions, and claim what was done in them."""
        for held in self._held.values():
            held.close()
        for held in self._ended.values():
            self._claim_soon(held)

    @property
    def bytes_held(self) -> int:
        """Room set aside for their caches."""
        return sum(held.quota_bytes for held in self._held.values())

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hold sessions, and forget idle ones, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                task_status.started()
                while True:
                    self._expire()
                    await trio.sleep(SWEEP_S)
            finally:
                self._nursery = None

    # -- opening

    async def _open(self, incoming: Incoming) -> Answer:
        message = incoming.message
        assert isinstance(message, OpenSession)
        desk, began = self._desk, self._desk.clock.monotonic_ms()
        _ = desk.chain.signer  # a locked wallet could sign no receipt for the work
        job = await wait_lock(desk.chain, message.job, within_s=self._terms.lock_wait_s)
        statement = session_statement(
            message, chain_id=desk.chain.chain_id, requester_peer=incoming.peer
        )
        if not desk.verifier.verify(job.requester, statement, message.signature):
            raise BadSignature(
                "the account that locked the job did not sign this", peer=incoming.peer
            )
        opened = Open(message.job, message.unit, message.worker, message.signature)
        check_terms(opened, job, chain=desk.chain, terms=self._terms, kind=WorkKind.GENERATE)
        key = (incoming.peer, message.job, message.unit)
        held = self._held.get(key)
        if held is None:
            self._check_alone(key)
            desk.take_on(job, message.unit)
            desk.check_unclaimed(job, message.unit)
            self._opening.add(key)
            try:
                held = await self._begin(message, job, incoming.peer)
            finally:
                self._opening.discard(key)
        spent = desk.clock.monotonic_ms() - began
        return held.opened(idle_ms=self._room.idle_ms, load_ms=spent), b""

    def _check_alone(self, key: HeldKey) -> None:
        """A unit has one receipt, so one session at a time works for it."""
        for other in (*self._opening, *self._held, *self._ended):
            if other[1:] == key[1:] and (other != key or key in self._opening):
                raise Busy("this unit has a session that is being opened, or another peer's")

    async def _begin(self, message: OpenSession, job: Job, peer: PeerId) -> Held:
        desk, spec = self._desk, job.units[message.unit]
        if why := desk.policy.before(facts_of(job, spec)):
            raise PolicyRefused(why)
        manifest = await desk.models.manifest(spec.model)
        shard = find_shard(manifest.shards, spec)
        shape = kv_shape(shard.inputs, shard.outputs)
        if (message.sampling is not None) != shape.is_last:
            raise InputMismatch("the last stage, and no other, is told how a token is chosen")
        self._numbers += 1
        held = Held(
            peer=peer,
            job=job,
            unit=message.unit,
            shard=shard,
            shape=shape,
            number=self._numbers,
            positions_max=message.positions,
            sampling=message.sampling,
            started_height=desk.chain.height(),
            last_ms=desk.clock.monotonic_ms(),
        )
        self._room.check(held, self._held.values())
        if self._nursery is None:
            raise Busy("this node does not work now")
        self._held[held.key] = held
        await self._nursery.start(self._hold, held)
        return held

    async def _hold(self, held: Held, *, task_status: trio.TaskStatus[None]) -> None:
        """Keep the shard loaded while the session is open, then claim what was done."""
        facts, outcome = facts_of(held.job, held.spec), "done"
        is_started = False
        try:
            async with self._desk.shards.use(held.spec.model, held.shard) as line:
                held.line, held.class_id = line, line.class_id
                self._go_on(held)
                is_started = True
                task_status.started()
                above = traces.shared_id(held.job.job, held.unit, self._desk.chain.address)
                with traces.span("work", parent=above, prsm__unit=held.unit):
                    await held.closing.wait()
                with trio.move_on_after(_DROP_S):
                    await line.drop(held.number)
        except PrsmError as error:
            outcome = error.reason
            if not is_started:
                raise
            log.warning("session of unit %d ended: %s", held.unit, error.what)
        except Exception as error:  # one session must not take the others down
            outcome = "internal"
            if not is_started:
                raise WorkerFailed("the shard could not be opened") from error
            log.exception("session of unit %d ended", held.unit)
        finally:
            held.close()
            if self._held.get(held.key) is held:
                del self._held[held.key]
            if is_started and held.results():
                self._keep_ended(held)
            self._desk.policy.after(facts, outcome)

    def _go_on(self, held: Held) -> None:
        """The requester begins anew: what it had of the unit before stays in the receipt."""
        old, is_paid = self._ended.get(held.key), held.spec.price_per_row > 0
        if old is None:
            return
        if old.is_claimed or (is_paid and old.class_id != held.class_id):
            self._claim_soon(old)
            raise JobClosed("the receipt of this unit is being made")
        del self._ended[held.key]
        if is_paid:
            held.go_on(old)

    # -- steps

    async def _step(self, incoming: Incoming) -> Answer:
        ask = incoming.message
        assert isinstance(ask, AskStep)
        held = self._find(incoming.peer, ask.job, ask.unit)
        carried = held.check(ask, incoming.tail)
        feeds = self._check_feeds(held, ask, carried)
        held.is_running = True
        try:
            made, spent_us = await self._compute(held, ask, carried)
            held.took(ask, carried, made, spent_us=spent_us)
            held.feeds |= feeds
            for feed in feeds.values():  # before a receipt is made of it
                await self._keep(held, feed)
        finally:
            held.is_running = False
            held.last_ms = self._desk.clock.monotonic_ms()
        return StepDone(ask.job, ask.unit, held.book.position, made.head, spent_us), made.data

    async def _compute(self, held: Held, ask: AskStep, carried: Tensor) -> tuple[Tensor, int]:
        assert held.line is not None
        call = Step(
            session=held.number,
            start_position=ask.start_position,
            sizes=ask.sizes,
            quota_bytes=held.quota_bytes,
            sampling=held.sampling,
            tensor=carried.head,
        )
        with trio.CancelScope() as held.scope:
            before = held.line.cpu_us
            try:
                made = await held.line.step(call, carried)
            except InputMismatch:
                raise  # the cache is as it was
            except PrsmError:
                held.close()  # the child is another one now, or holds something else
                raise
            return made, max(0, held.line.cpu_us - before)
        raise UnknownSession("the session was ended while its step ran")

    def _check_feeds(self, held: Held, ask: AskStep, carried: Tensor) -> dict[int, Feed]:
        """Did the requester sign for every batch that these steps complete? None is computed else.

        Raises:
            BadSignature: it did not.
            PolicyRefused: history for nothing, in a session that is paid.
            WireError: steps that fit no batch, or another number of signatures.
        """
        if ask.is_history:
            if held.book.has_steps or held.spec.price_per_row:
                raise PolicyRefused(
                    "a replay in other steps than the first time is for free work, from position 0"
                )
            return {}
        due = held.book.fed(ask.sizes, carried)
        if len(due) != len(ask.feeds):
            raise WireError(f"{len(ask.feeds)} feeds with these steps, {len(due)} are due")
        found = {}
        for (index, before, side), signature in zip(due, ask.feeds, strict=True):
            batch = held.spec.first + index
            found[batch] = self._feed(held, batch, (before, side), signature)
        return found

    def _feed(self, held: Held, batch: int, roots: tuple[bytes, bytes], signature: bytes) -> Feed:
        held.check_said(batch, roots)
        feed = Feed(held.job.job, held.unit, batch, *roots, signature)
        chain_id, verifier = self._desk.chain.chain_id, self._desk.verifier
        if not is_fed(feed, held.job.requester, chain_id=chain_id, verifier=verifier):
            raise BadSignature(
                f"batch {batch} is not signed for by the account that locked the job",
                peer=held.peer,
            )
        return feed

    async def _keep(self, held: Held, feed: Feed) -> None:
        """Keep a batch for whoever is drawn to check it; the requester has it, too."""
        taped = held.taped(feed.batch - held.spec.first)
        if self._desk.evidence is None:
            return
        place = Place(held.job.job, held.unit, feed.batch, Side.IN, self._desk.chain.address)
        await self._desk.evidence.hand_over(place, held.spec, (taped.inputs, taped.outputs), feed)

    # -- ending

    def _find(self, peer: PeerId, job: bytes, unit: int) -> Held:
        held = self._held.get((peer, job, unit))
        if held is None or held.is_closed or held.line is None:
            raise UnknownSession(
                f"this peer has no session of unit {unit} of job {job.hex()[:16]} open here",
                hint="open it, and replay the history from position 0",
            )
        return held

    def _end(self, incoming: Incoming) -> None:
        message = incoming.message
        assert isinstance(message, EndSession)
        held = self._held.get((incoming.peer, message.job, message.unit))
        if held is not None:
            held.close()

    def _expire(self) -> None:
        now = self._desk.clock.monotonic_ms()
        for held in list(self._held.values()):
            is_idle = not held.is_running and now - held.last_ms >= self._room.idle_ms
            if is_idle or self._desk.is_over(held.job.job, held.unit):
                held.close()
        for held in list(self._ended.values()):
            if now - held.last_ms >= self._room.idle_ms:
                self._let_go(held)

    def _keep_ended(self, held: Held) -> None:
        """Its receipt may be asked for; a worker is bound once, so not before it must be."""
        self._ended[held.key] = held
        for old in list(self._ended.values())[: max(0, len(self._ended) - ENDED_MAX)]:
            self._let_go(old)

    def _let_go(self, held: Held) -> None:
        """Forget an ended session, but not before what was done in it is claimed."""
        if held.is_bound:
            del self._ended[held.key]
        else:
            self._claim_soon(held)

    def _claim_soon(self, held: Held) -> None:
        if not held.is_claimed and self._nursery is not None:
            self._nursery.start_soon(self._claim, held)

    async def _claim(self, held: Held) -> None:
        """Commit what was done and fed, though nobody asked.

        What fails, the disk being full or the wallet locked, is tried again like an idle session.
        """
        try:
            await self._receipt(held)
        except PrsmError as error:
            log.warning("unit %d is not claimed: %s", held.unit, error.what)
            held.last_ms = self._desk.clock.monotonic_ms()
            if self._desk.is_over(held.job.job, held.unit) or len(self._ended) > ENDED_MAX:
                self._ended.pop(held.key, None)

    async def _finish(self, incoming: Incoming) -> Answer:
        message = incoming.message
        assert isinstance(message, FinishSession)
        key = (incoming.peer, message.job, message.unit)
        held = self._held.get(key) or self._ended.get(key)
        if held is None:
            raise UnknownSession("no such session was opened by this peer")
        # While steps run, the word is for less than will be done.
        fed = None if held.is_running else self._feed_short(held, message)
        if held.is_running or not held.results():
            raise UnitIncomplete("no batch of this unit is done and signed for")
        held.close()
        claim = await self._receipt(held, fed)
        return ShownReceipt(await self._desk.claims.show(claim)), b""

    def _feed_short(self, held: Held, message: FinishSession) -> Feed | None:
        for batch, roots, book in held.short_batches() if message.feeds else ():
            with suppress(BadSignature):
                held.feeds[batch] = self._feed(held, batch, roots, message.feeds[0])
                held.book = book
                return held.feeds[batch]
        return None

    async def _receipt(self, held: Held, fed: Feed | None = None) -> Claim:
        chain, held.is_claimed = self._desk.chain, True
        try:
            if fed is not None:
                await self._keep(held, fed)
            if self._desk.evidence is not None:
                await self._desk.evidence.wait_kept(held.job.job, held.unit)
            made = held.receipt(
                chain_id=chain.chain_id, worker=chain.address, height=chain.height()
            )
            claim = await self._desk.claims.add(made, held.words())
            held.is_bound = True
        finally:
            held.is_claimed = held.is_bound
        return claim
