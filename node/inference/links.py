"""Conversations with the workers of our jobs: open, push, take results, ask for the receipt.

Results are put together under the bounds of the shard's io table, and their roots are computed
here: a worker's own root is only compared. Must not know why a unit is asked. Whatever a worker
does wrong ends as `WorkerLost`.
"""

import logging
from collections import Counter
from dataclasses import dataclass, field, replace

import msgspec
import trio

from prsm.node.inference.departures import Departures
from prsm.node.inference.evidence import Evidence, Place
from prsm.node.inference.feeds import NO_FEED, Target, feed_over
from prsm.node.inference.interface import Chain, JobClosed
from prsm.node.inference.transfer import Assembly, check_heads, cut, row_axes
from prsm.node.inference.verify import batch_root
from prsm.node.net.interface import Busy, Channel, Incoming, Network, PeerEvent
from prsm.protocol.codec import decode
from prsm.protocol.ed25519 import Verifier
from prsm.protocol.errors import LocalError, PrsmError, RemoteError, WireError
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import TRANSACTION_BYTES_MAX
from prsm.protocol.messages.audit import Side
from prsm.protocol.messages.generation import FinishSession
from prsm.protocol.messages.models import Shard
from prsm.protocol.messages.pipe import InputMismatch
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
    open_statement,
)
from prsm.protocol.receipts import Feed, WorkReceipt, is_signed, sign_feed
from prsm.protocol.tensors import Tensor
from prsm.protocol.transactions.payloads import Unit

log = logging.getLogger(__name__)

_Key = tuple[PeerId, bytes, int, int]  # peer, job, unit, batch


class WorkerLost(LocalError):
    """A worker does no more for a unit: unreachable, refused, too slow, or wrong in form.

    Args:
        what: one sentence.
        hint: what to do next.
        cause: reason of the failure behind it, as its peer or our own network named it; empty
            where there is none.
    """

    reason = "worker_lost"

    def __init__(self, what: str, *, hint: str = "", cause: str = "") -> None:
        super().__init__(what, hint=hint)
        self.cause = cause


class InputRefused(InputMismatch):
    """A worker says that the values we sent are none its model takes: NaN, a wrong index."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a worker answered for one micro-batch; the roots are ours."""

    tensors: tuple[Tensor, ...]
    input_root: bytes
    side_root: bytes
    output_root: bytes
    compute_ms: int

    @property
    def roots(self) -> tuple[bytes, bytes, bytes]:
        """Input, side and output root, as in a receipt."""
        return (self.input_root, self.side_root, self.output_root)

    def bare(self) -> "Opinion":
        """The same without its tensors."""
        return replace(self, tensors=())


@dataclass(slots=True, eq=False)
class _Pending:
    shard: Shard
    axes: dict[str, int]
    done: trio.Event = field(default_factory=trio.Event)
    assembly: Assembly | None = None
    tensors: tuple[Tensor, ...] = ()
    last: Result | None = None
    error: PrsmError | None = None

    def take(self, result: Result, data: bytes) -> None:
        """Take a chunk of the outputs; a wrong one ends the wait."""
        try:
            if result.chunk == 0:
                check_heads(result.tensors, self.shard.outputs, axes=dict(self.axes))
                self.assembly = Assembly(result.tensors, result.chunks)
            if self.assembly is None:
                raise WireError(f"chunk {result.chunk} before chunk 0")
            tensors = self.assembly.add(result.chunk, data)
        except PrsmError as error:
            self.fail(error)
            return
        if tensors is not None:
            self.tensors, self.last = tensors, result
            self.done.set()

    def fail(self, error: PrsmError) -> None:
        """End the wait."""
        self.error = error
        self.done.set()


class Links:
    """All conversations of this node as a requester."""

    def __init__(
        self,
        network: Network,
        chain: Chain,
        verifier: Verifier,
        *,
        evidence: Evidence | None = None,
    ) -> None:
        """Join the network.

        Args:
            network: not running yet.
            chain: our account.
            verifier: of receipts.
            evidence: keeps what one worker does alone, for whoever the ledger draws to check it.
        """
        self.network, self.chain, self.verifier = network, chain, verifier
        self.evidence = evidence
        self.departures = Departures(network)
        self._pending: dict[_Key, _Pending] = {}
        self.dropped: Counter[str] = Counter()  # answers nobody waits for
        network.on_message(Result, self._take_result)
        network.on_message(WorkFailed, self._take_failure)
        network.on_peer(self._peer_event)

    def wait_for(self, key: _Key, pending: _Pending) -> None:
        """Route the answers of one micro-batch to a waiter."""
        assert key not in self._pending
        self._pending[key] = pending

    def forget(self, key: _Key) -> None:
        """Nobody waits for it any more."""
        del self._pending[key]

    async def receipt(
        self, peer: PeerId, call: Finish | FinishSession, *, worker: bytes
    ) -> WorkReceipt:
        """Ask for a receipt; its hash is on the ledger then. The caller sets the deadline.

        Raises:
            WorkerLost: unreachable, refused, or a receipt of something else.
        """
        try:
            answer, _ = await self.network.call(peer, call, channel=Channel.CTL)
            if not isinstance(answer, ShownReceipt):
                raise WireError(f"{type(answer).__name__} is no receipt")
            receipt = decode(answer.receipt, WorkReceipt, size_max=TRANSACTION_BYTES_MAX)
        except PrsmError as error:
            raise self.lost(peer, "showed no receipt", error) from error
        named = (receipt.chain_id, receipt.job, receipt.unit, receipt.worker)
        if named != (self.chain.chain_id, call.job, call.unit, worker):
            raise self.faulty(peer, "a receipt of something else")
        if not is_signed(receipt, self.verifier):
            raise self.faulty(peer, "a receipt its worker did not sign")
        return receipt

    def lost(self, peer: PeerId, what: str, error: PrsmError) -> WorkerLost:
        """What a failure of a worker's peer means for who asked."""
        if isinstance(error, RemoteError) and error.penalty:
            self.network.penalise(peer, error)
        reason = getattr(error, "refusal", error.reason)
        return WorkerLost(f"{what}: {reason}: {error.what}", cause=reason)

    def is_closed(self, job: bytes, unit: int, worker: bytes, *, cause: str) -> bool:
        """Did a worker stop because it may do no more of a unit, as our own ledger shows?

        Its word alone excuses nobody: there must be its receipt, or the unit or its time is over.
        """
        chain, found = self.chain, self.chain.job(job)
        if cause != JobClosed.reason or found is None:
            return False
        is_over = not found.is_open or found.verdicts[unit] is not None
        is_late = chain.block_time_ms() >= found.deadline_ms
        return is_over or is_late or chain.committed(job, unit, worker) is not None

    def faulty(self, peer: PeerId, what: str) -> WorkerLost:
        """A worker said what no honest one says."""
        self.network.penalise(peer, RemoteError(what, peer=peer, penalty=50))
        return WorkerLost(what)

    def _take_result(self, incoming: Incoming) -> None:
        result = incoming.message
        assert isinstance(result, Result)
        pending = self._pending.get((incoming.peer, result.job, result.unit, result.batch))
        if pending is None or pending.done.is_set():
            self.dropped["result"] += 1
            return
        pending.take(result, incoming.tail)

    def _take_failure(self, incoming: Incoming) -> None:
        failed = incoming.message
        assert isinstance(failed, WorkFailed)
        pending = self._pending.get((incoming.peer, failed.job, failed.unit, failed.batch))
        if pending is None or pending.done.is_set():
            self.dropped["failure"] += 1
            return
        pending.fail(_refusal(failed))

    def _peer_event(self, event: PeerEvent) -> None:
        if event.up:
            return
        for key, pending in self._pending.items():
            if key[0] == event.peer and not pending.done.is_set():
                pending.fail(WorkerLost(f"peer {event.peer} was lost: {event.why}"))


@dataclass(frozen=True, slots=True)
class Link:
    """One worker's part in one unit of a job of ours."""

    links: Links
    peer: PeerId
    job: bytes
    unit: int
    worker: bytes
    spec: Unit
    shard: Shard
    quote: bytes = b""  # of the worker, if it gave one

    async def open(self) -> Accepted:
        """Ask the worker to do the unit; it loads the shard first. The caller sets the deadline.

        Raises:
            WorkerLost: unreachable, or its typed refusal.
        """
        chain, network = self.links.chain, self.links.network
        unsigned = Open(self.job, self.unit, self.worker, bytes(64))
        statement = open_statement(
            unsigned, chain_id=chain.chain_id, requester_peer=network.peer_id
        )
        opened = msgspec.structs.replace(unsigned, signature=chain.signer.sign(statement))
        try:
            answer, _ = await network.call(self.peer, opened, channel=Channel.CTL, tail=self.quote)
        except PrsmError as error:
            raise self._lost("did not open the unit", error) from error
        if not isinstance(answer, Accepted) or (answer.job, answer.unit) != (self.job, self.unit):
            kind = type(answer).__name__
            raise self.links.faulty(self.peer, f"{kind} does not accept the unit")
        return answer

    async def ask(self, batch: int, rows: int, tensors: tuple[Tensor, ...]) -> Opinion:
        """Push one micro-batch and wait for its outputs.

        The caller keeps the credit and sets the deadline; cancelled, it tells the worker to stop.

        Raises:
            InputRefused: the worker refuses the values.
            Busy: it has no room for more now.
            WorkerLost: unreachable, refused, or an answer that is not of that shard.
        """
        axes = row_axes(self.shard.inputs, rows)
        check_heads([tensor.head for tensor in tensors], self.shard.inputs, axes=axes)
        feed = self._sign_feed(batch, tensors)
        key = (self.peer, self.job, self.unit, batch)
        pending = _Pending(self.shard, axes)
        self.links.wait_for(key, pending)
        try:
            await self._push(feed, tensors)
            await pending.done.wait()
        except PrsmError as error:
            raise self._lost(f"took no batch {batch}", error) from error
        except trio.Cancelled:  # nobody waits for the answer: the worker must not go on
            self._cancel(batch)
            raise
        finally:
            self.links.forget(key)
        if isinstance(pending.error, InputRefused | Busy):
            raise pending.error
        if pending.error is not None:
            raise self._lost(f"batch {batch}", pending.error) from pending.error
        assert pending.last is not None
        before, side, after = feed.input_root, feed.side_root, batch_root(pending.tensors)
        last = pending.last
        if (last.input_root, last.side_root, last.output_root) != (before, side, after):
            what = f"batch {batch}: its roots are not those of its bytes"
            raise self.links.faulty(self.peer, what)
        await self._keep(feed, tensors, pending.tensors)
        return Opinion(pending.tensors, before, side, after, last.compute_ms)

    async def finish(self) -> WorkReceipt:
        """Ask for the receipt; its hash is on the ledger then. The caller sets the deadline.

        Raises:
            WorkerLost: unreachable, refused, or a receipt of something else.
        """
        return await self.links.receipt(self.peer, Finish(self.job, self.unit), worker=self.worker)

    def close(self) -> None:
        """Tell the worker that no more comes."""
        message = CloseWork(self.job, self.unit)
        self.links.network.send_nowait(self.peer, message, channel=Channel.BULK)

    def _cancel(self, batch: int) -> None:
        message = CancelBatch(self.job, self.unit, batch)
        self.links.network.send_nowait(self.peer, message, channel=Channel.BULK)

    def _sign_feed(self, batch: int, tensors: tuple[Tensor, ...]) -> Feed:
        chain = self.links.chain
        unsigned = feed_over(Target(self.job, self.unit, batch, self.spec.stage), tensors)
        return sign_feed(unsigned, chain.signer, chain_id=chain.chain_id)

    async def _keep(
        self, feed: Feed, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]
    ) -> None:
        """Keep what an auditor will ask for; the worker has it, too, if we have no room."""
        if self.links.evidence is None:
            return
        place = Place(self.job, self.unit, feed.batch, Side.IN, self.worker)
        try:
            await self.links.evidence.keep_batch(place, self.spec, (inputs, outputs), feed)
        except LocalError as error:
            log.warning("batch %d is not kept for checks: %s", feed.batch, error.what)

    async def _push(self, feed: Feed, tensors: tuple[Tensor, ...]) -> None:
        for chunk in cut(tensors):
            push = Push(
                job=self.job,
                unit=self.unit,
                batch=feed.batch,
                chunk=chunk.chunk,
                chunks=chunk.chunks,
                tensors=chunk.heads,
                feed=feed.signature if chunk.chunk == 0 else NO_FEED,
            )
            await self.links.network.send(self.peer, push, channel=Channel.BULK, tail=chunk.data)

    def _lost(self, what: str, error: PrsmError) -> WorkerLost:
        return self.links.lost(self.peer, what, error)


def _refusal(failed: WorkFailed) -> PrsmError:
    """What a worker's typed failure means for the one who asked."""
    if failed.reason == InputMismatch.reason:
        return InputRefused(failed.what)
    if failed.reason == Busy.reason:
        return Busy(f"the worker is busy: {failed.what}")
    what = f"refused batch {failed.batch}: {failed.reason}: {failed.what}"
    return WorkerLost(what, cause=failed.reason)
