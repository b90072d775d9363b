"""Shards run for peers: open against our own ledger, take batches, run, answer, make the receipt.

Only units whose lock names this node are done, with the locked rows, for the account that locked
them. Nothing a peer sends raises here beyond a typed answer. Must not know how a shard computes.
"""

from collections import Counter
from typing import Final

import trio

from prsm.consensus.ledger.records import Job
from prsm.node.inference.capacity import Standing
from prsm.node.inference.desk import Desk
from prsm.node.inference.evidence import Place
from prsm.node.inference.interface import JobClosed, PolicyRefused, UnitIncomplete, UnknownJob
from prsm.node.inference.lease import Inputs, Lease, Reserve
from prsm.node.inference.line import Line
from prsm.node.inference.outgoing import Outgoing
from prsm.node.inference.terms import (
    Terms,
    check_caller,
    check_terms,
    facts_of,
    find_shard,
    wait_lock,
)
from prsm.node.inference.transfer import cut
from prsm.node.net.interface import Answer, Busy, Channel, Incoming, PeerEvent
from prsm.node.telemetry import logs, traces
from prsm.protocol.errors import BadSignature, PrsmError
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import TEXT_BYTES_MAX
from prsm.protocol.messages.audit import Side
from prsm.protocol.messages.pipe import WorkerFailed
from prsm.protocol.messages.serving import CancelBatch
from prsm.protocol.messages.work import (
    Accepted,
    CloseWork,
    Finish,
    Open,
    Push,
    Result,
    ShownReceipt,
    WorkFailed,
)
from prsm.protocol.receipts import Feed, WorkReceipt, is_fed
from prsm.protocol.tensors import Tensor

log: Final = logs.get("executor")

LEASES_KEPT_MAX: Final = 1024  # with those that only wait for their `Finish`


class Executor:
    """Works on units of peers' jobs."""

    def __init__(self, desk: Desk, terms: Terms) -> None:
        self._desk, self._terms = desk, terms
        self._leases: dict[tuple[bytes, int], Lease] = {}
        self._outgoing = Outgoing(terms)
        self._opening: set[tuple[bytes, int]] = set()
        self._nursery: trio.Nursery | None = None
        self.dropped: Counter[str] = Counter()  # chunks that belonged to nothing, by why
        desk.claims.engagements.add(self._engaged)
        desk.hold(self)
        desk.network.on_call(Open, self._open)
        desk.network.on_call(Finish, self._finish)
        desk.network.on_message(Push, self._push)
        desk.network.on_message(CloseWork, self._close_work)
        desk.network.on_message(CancelBatch, self._cancel)
        desk.network.on_peer(self._peer_event)

    @property
    def at_work(self) -> int:
        """Units worked on now."""
        return len(self._working())

    def held(self) -> list[PeerId]:
        """Whose units are open here, or done and not claimed yet: one entry for each."""
        return [lease.peer for lease in self._leases.values() if lease.is_held]

    def end(self) -> None:
        """Close all units; what is done of them is claimed."""
        for lease in self._working():
            lease.close()

    def standing(self) -> Standing:
        """What this node offers now."""
        shards = self._desk.shards
        free = 0 if self._desk.is_draining else max(0, self._terms.units_max - self.at_work)
        offer = self._terms.price_per_row, shards.runtime, free, shards.classes()
        return Standing(*offer, self._terms.memory_bytes, shards.waiting_ms, shards.times())

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                task_status.started()
                while True:
                    self._expire()
                    chain = self._desk.chain
                    await chain.wait_height(chain.height() + 1)
            finally:
                self._nursery = None

    # -- opening

    async def _open(self, incoming: Incoming) -> Answer:
        message = incoming.message
        assert isinstance(message, Open)
        began = self._desk.clock.monotonic_ms()
        _ = self._desk.chain.signer  # a locked wallet could sign no receipt for the work
        desk, key = self._desk, (message.job, message.unit)
        job = await wait_lock(desk.chain, message.job, within_s=self._terms.lock_wait_s)
        check_caller(message, job, incoming.peer, chain=desk.chain, verifier=desk.verifier)
        check_terms(message, job, chain=desk.chain, terms=self._terms, quote=incoming.tail)
        if key in self._opening:
            raise Busy("this unit is being opened")
        known = self._leases.get(key)
        if known is not None and known.peer == incoming.peer and not known.is_closed:
            return self._accepted(known, began), b""
        if known is not None and not known.is_closed:
            known.close()  # the same account from another peer: it moved
        self._check_room(incoming.peer)
        desk.take_on(job, message.unit)
        desk.check_unclaimed(job, message.unit)
        if known is not None and known.done:
            raise JobClosed("what was done of this unit is being claimed")
        self._opening.add(key)
        try:
            lease = await self._begin(message, job, incoming.peer)
        finally:
            self._opening.discard(key)
        return self._accepted(lease, began), b""

    async def _begin(self, message: Open, job: Job, peer: PeerId) -> Lease:
        spec = job.units[message.unit]
        facts = facts_of(job, spec)
        if why := self._desk.policy.before(facts):
            raise PolicyRefused(why)
        manifest = await self._desk.models.manifest(spec.model)
        shard = find_shard(manifest.shards, spec)
        credit = self._terms.tab_credit if job.is_open_ended else self._terms.credit
        send, receive = trio.open_memory_channel[Inputs](credit)
        lease = Lease(
            peer=peer,
            job=job,
            unit=message.unit,
            shard=shard,
            credit=credit,
            started_height=self._desk.chain.height(),
            begun_ms=self._desk.chain.block_time_ms(),
            queue=send,
        )
        if self._nursery is None:
            raise Busy("the executor is not running")
        self._leases[lease.key] = lease
        # Raises here what went wrong before the shard was loaded.
        with logs.bound(job=message.job.hex(), unit=message.unit):
            await self._nursery.start(self._serve, lease, receive)
        return lease

    def _accepted(self, lease: Lease, began_ms: int) -> Accepted:
        load_ms = self._desk.clock.monotonic_ms() - began_ms
        return Accepted(lease.job.job, lease.unit, lease.credit, lease.class_id, load_ms)

    def _check_room(self, peer: PeerId) -> None:
        working = self._working()
        if len(working) >= self._terms.units_max:
            raise Busy(f"{len(working)} units are worked on, at most {self._terms.units_max}")
        of_peer = sum(lease.peer == peer for lease in working)
        if of_peer >= self._terms.units_per_peer_max:
            raise Busy(f"{of_peer} units of this peer, at most {self._terms.units_per_peer_max}")
        leases = self._leases.items()
        finished = [old for old, lease in leases if lease.is_closed and not lease.is_held]
        for old in finished[: max(0, len(self._leases) + 1 - LEASES_KEPT_MAX)]:
            del self._leases[old]
        if len(self._leases) >= LEASES_KEPT_MAX:
            raise Busy(f"{len(self._leases)} units are worked on, or cannot be claimed yet")

    def _engaged(self) -> set[tuple[bytes, int]]:
        """Units that are open, or of which something is done."""
        leases = self._leases.items()
        return self._opening | {key for key, one in leases if one.done or not one.is_closed}

    def _working(self) -> list[Lease]:
        return [lease for lease in self._leases.values() if not lease.is_closed]

    # -- what arrives; runs in the network's reader task

    def _push(self, incoming: Incoming) -> None:
        push = incoming.message
        assert isinstance(push, Push)
        lease = self._leases.get((push.job, push.unit))
        if lease is None or lease.is_closed or lease.peer != incoming.peer:
            self.dropped["unknown_job"] += 1
            return
        try:
            if not lease.take(push, incoming.tail, room=self._room(lease)):
                self.dropped["not_awaited"] += 1
        except PrsmError as error:
            self.dropped[error.reason] += 1
            if not isinstance(error, Busy):
                lease.forget(push.batch)
            self._answer_failure(lease, push.batch, error)

    def _room(self, lease: Lease) -> Reserve:
        working = self._working()
        taken = sum(other.waiting_bytes for other in working)
        of_peer = sum(other.waiting_bytes for other in working if other.peer == lease.peer)
        return Reserve(self._terms.bytes_max - taken, self._terms.bytes_per_peer_max - of_peer)

    def _answer_failure(self, lease: Lease, batch: int, error: PrsmError) -> None:
        what = error.what[: TEXT_BYTES_MAX - 1]
        failed = WorkFailed(lease.job.job, lease.unit, batch, error.reason[:64], what)
        self._desk.network.send_nowait(lease.peer, failed, channel=Channel.BULK)

    def _close_work(self, incoming: Incoming) -> None:
        message = incoming.message
        assert isinstance(message, CloseWork)
        lease = self._leases.get((message.job, message.unit))
        if lease is not None and lease.peer == incoming.peer and not lease.is_closed:
            lease.close()

    def _cancel(self, incoming: Incoming) -> None:
        message = incoming.message
        assert isinstance(message, CancelBatch)
        lease = self._leases.get((message.job, message.unit))
        if lease is not None and lease.peer == incoming.peer:
            lease.cancel(message.batch)

    def _peer_event(self, event: PeerEvent) -> None:
        for lease in self._working():
            if lease.peer == event.peer and not event.up:
                lease.close()

    def _expire(self) -> None:
        """Close what the ledger has closed; forget it once nobody can ask for it."""
        chain = self._desk.chain
        for key, lease in list(self._leases.items()):
            job = chain.job(lease.job.job)
            is_over = job is None or not job.is_open or job.verdicts[lease.unit] is not None
            left_ms = lease.job.deadline_ms - chain.block_time_ms()
            # A tab is never complete: what was done in it is claimed while there is time.
            is_due = lease.job.is_open_ended and left_ms < lease.claim_ms(self._terms.claim_ms)
            if (is_over or is_due or left_ms < 0) and not lease.is_closed:
                lease.close()
            if is_over or left_ms < 0:
                del self._leases[key]

    # -- work

    async def _serve(
        self,
        lease: Lease,
        queue: trio.MemoryReceiveChannel[Inputs],
        *,
        task_status: trio.TaskStatus[None],
    ) -> None:
        """Work on a unit until it is complete or closed; then claim what was done."""
        facts, outcome = facts_of(lease.job, lease.spec), "done"
        is_started = False
        try:
            async with self._desk.shards.use(lease.spec.model, lease.shard) as session, queue:
                lease.class_id = session.class_id
                is_started = True
                task_status.started()
                above = traces.shared_id(lease.job.job, lease.unit, self._desk.chain.address)
                with traces.span("work", parent=above, prsm__unit=lease.unit) as mark:
                    await self._work_off(lease, session, queue)
                    mark.set(prsm__batches=len(lease.done), prsm__compute_us=lease.compute_us)
            if lease.done:
                await self._desk.claim_in_time(*self._owed(lease))
        except PrsmError as error:
            outcome = error.reason
            if not is_started:
                raise
            log.warning("unit ended badly", what=error.what)
        except Exception as error:  # a unit must not take the others down
            outcome = "internal"
            if not is_started:
                raise WorkerFailed("the shard could not be opened") from error
            log.exception("unit ended badly")
        finally:
            if not is_started and self._leases.get(lease.key) is lease:
                del self._leases[lease.key]
            lease.close()
            lease.is_held = False
            log.info("unit ended", outcome=outcome, batches=len(lease.done))
            self._desk.policy.after(facts, outcome)

    async def _work_off(
        self, lease: Lease, line: Line, queue: trio.MemoryReceiveChannel[Inputs]
    ) -> None:
        """Put every micro-batch into the shard's line as it comes, up to the credit."""
        async with trio.open_nursery() as nursery:
            async for batch, tensors in queue:
                if lease.is_closed:
                    break
                nursery.start_soon(self._work_in_scope, lease, line, batch, tensors)

    async def _work_in_scope(
        self, lease: Lease, line: Line, batch: int, tensors: tuple[Tensor, ...]
    ) -> None:
        """Work on a micro-batch unless the requester takes it back."""
        if not lease.is_closed and batch not in lease.cancelled:
            with lease.scope_of(batch):
                async with self._outgoing.room(lease.peer, lease.due[batch]):
                    await self._work(lease, line, batch, tensors)
        lease.forget(batch)
        if lease.is_complete and lease.is_idle:
            lease.close()

    async def _work(
        self, lease: Lease, line: Line, batch: int, tensors: tuple[Tensor, ...]
    ) -> None:
        """Run one micro-batch and answer it; a failure is an answer too."""
        try:
            feed = self._checked_feed(lease, batch, tensors)
            ran = await line.ask(tensors, who=lease.job.requester)
            lease.check_made(batch, ran.outputs)
            await self._keep(lease, feed, tensors, ran.outputs)
        except PrsmError as error:
            lease.forget(batch)
            self._answer_failure(lease, batch, error)
            return
        if lease.is_closed:  # while the disk was busy: it may be claimed, or open again
            return
        size = sum(len(tensor.data) for tensor in tensors)
        lease.note(feed, ran.outputs, bytes_in=size, cpu_us=ran.cpu_us)
        done = lease.done[batch]
        rows = lease.job.batch_rows[batch]
        self._desk.shards.note(lease.spec.model, lease.shard, rows=rows, cpu_us=ran.cpu_us)
        for chunk in cut(ran.outputs):  # the next is cut when the one before is queued
            result = Result(
                *(lease.job.job, lease.unit, batch, chunk.chunk, chunk.chunks),
                tensors=chunk.heads,
                input_root=done.input_root,
                side_root=done.side_root,
                output_root=done.output_root,
                compute_ms=ran.cpu_us // 1000,
            )
            await self._send(lease, result, chunk.data)

    def _checked_feed(self, lease: Lease, batch: int, tensors: tuple[Tensor, ...]) -> Feed:
        """The requester's word for these tensors: nothing is computed without it.

        Raises:
            BadSignature: the account that locked the job did not sign them.
        """
        feed, desk = lease.feed(batch, tensors), self._desk
        chain_id, requester = desk.chain.chain_id, lease.job.requester
        if not is_fed(feed, requester, chain_id=chain_id, verifier=desk.verifier):
            raise BadSignature("the account that locked the job did not sign these inputs")
        return feed

    async def _keep(
        self, lease: Lease, feed: Feed, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]
    ) -> None:
        """Keep what nobody will compare: whoever is drawn to check it asks for it."""
        if self._desk.evidence is not None:
            us = self._desk.chain.address
            place = Place(lease.job.job, lease.unit, feed.batch, Side.IN, us)
            await self._desk.evidence.keep_batch(place, lease.spec, (inputs, outputs), feed)

    async def _send(self, lease: Lease, result: Result, data: bytes) -> None:
        try:
            await self._desk.network.send(lease.peer, result, channel=Channel.BULK, tail=data)
        except PrsmError as error:
            log.debug("result was not sent", batch=result.batch, what=error.what)

    # -- receipts

    def _owed(self, lease: Lease) -> tuple[WorkReceipt, tuple[Feed, ...]]:
        chain = self._desk.chain
        receipt = lease.receipt(
            chain_id=chain.chain_id, worker=chain.address, height=chain.height()
        )
        return receipt, tuple(lease.feeds.values())

    async def _finish(self, incoming: Incoming) -> Answer:
        message = incoming.message
        assert isinstance(message, Finish)
        lease = self._leases.get((message.job, message.unit))
        if lease is None or lease.peer != incoming.peer:
            raise UnknownJob("no such unit was opened by this peer")
        if not lease.done or lease.unanswered:
            raise UnitIncomplete(
                f"{len(lease.done)} micro-batches are done, {lease.unanswered} are not"
            )
        lease.close()  # there is one receipt: what would be done after it is in none
        claim = await self._desk.claims.add(*self._owed(lease))
        return ShownReceipt(await self._desk.claims.show(claim)), b""
