"""What a worker is owed: receipts signed, bound on the ledger, shown, and settled if need be.

A receipt is kept before its hash leaves, its hash is on the ledger before the receipt is shown.
If the requester does not settle a unit, a worker asks its co-workers for their receipts and
settles itself: nobody's consent is needed. Must not know tensors. Source: docs/spec/work.md,
"Receipt".
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import msgspec
import trio

from prsm.consensus.ledger.audits import Sampling
from prsm.consensus.ledger.records import Job
from prsm.consensus.ledger.tally import is_decided, rule_on
from prsm.node.inference.capacity import ask_all
from prsm.node.inference.commits import commit
from prsm.node.inference.engagements import Engagements
from prsm.node.inference.freeing import free_bonds
from prsm.node.inference.interface import (
    Chain,
    JobClosed,
    NotNamed,
    ReceiptStore,
    TransactionFailed,
    UnknownJob,
)
from prsm.node.net.interface import Answer, Channel, Incoming, Network
from prsm.protocol.codec import Record, decode, encode
from prsm.protocol.ed25519 import Verifier
from prsm.protocol.errors import BadSignature, PrsmError, WireError
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import MIB, TRANSACTION_BYTES_MAX
from prsm.protocol.messages.work import AskReceipt, ShownReceipt, ask_receipt_statement
from prsm.protocol.receipts import Feed, WorkReceipt, is_fed, is_signed, receipt_hash, sign_receipt
from prsm.protocol.transactions.payloads import (
    COMMIT,
    FEEDS_MAX,
    SETTLE,
    UNITS_MAX,
    Commit,
    CommitRow,
    Settle,
)
from prsm.protocol.transactions.results import Code

# Block time a requester has before its workers settle; half the grace in which nobody may leave
# a bound worker out of a settlement (`settle_grace_ms`).
SETTLE_AFTER_MS: Final = 15_000
ASK_S: Final = 10.0
CLAIMS_MAX: Final = 4096
_BROKEN: Final = Code.CHAIN_BROKEN.name.lower()  # rehearsal and block both say it, each its way
KEPT_BYTES_MAX: Final = MIB  # a receipt of 1,024 batches and their feeds is under 300 KiB

log = logging.getLogger(__name__)

# Told of a receipt of ours and its escrow (None: the ledger has forgotten it) once all is over.
OnOver = Callable[[WorkReceipt, Job | None], Awaitable[None]]


@dataclass(slots=True, eq=False)
class Claim:
    """A receipt of ours on its way to be paid."""

    receipt: WorkReceipt
    digest: bytes
    feeds: tuple[Feed, ...]  # the requester's word for what went into it
    committed: trio.Event = field(default_factory=trio.Event)
    committed_ms: int = 0  # block time
    error: PrsmError | None = None
    breaks: int = 0  # times the ledger found that it reads other batches than were written

    def words(self) -> tuple[Feed, ...]:
        """What the requester signed for some of the batches, after a break; each time for others.

        A worker that went in the middle of a batch wrote a short one, and settled it first.
        """
        newest = self.feeds[::-1]
        first = (self.breaks - 1) * FEEDS_MAX % max(1, len(newest))
        return newest[first : first + FEEDS_MAX] if self.breaks else ()


class _Kept(Record, frozen=True):
    receipt: WorkReceipt
    feeds: tuple[Feed, ...]


class Claims:
    """The receipts of this node that are not paid yet."""

    def __init__(
        self,
        network: Network,
        chain: Chain,
        store: ReceiptStore,
        verifier: Verifier,
        *,
        settle_after_ms: int = SETTLE_AFTER_MS,
        on_over: OnOver | None = None,
    ) -> None:
        """Nothing runs yet; `on_over` is told of each unit that is settled or closed.

        Whoever takes on units adds them to `engagements`: their bonds are those of our claims.
        """
        self._network, self._chain, self._store, self._verifier = network, chain, store, verifier
        self._settle_after_ms = settle_after_ms
        self._claims: dict[tuple[bytes, int], Claim] = {}
        self._tries: dict[tuple[bytes, int], int] = {}  # block time of the last attempt to settle
        self._adding = trio.Lock()
        self.engagements = Engagements(chain)
        self.engagements.add(lambda: self._claims)
        self._on_over = on_over
        self._send, self._receive = trio.open_memory_channel[Claim](CLAIMS_MAX)
        network.on_call(AskReceipt, self._answer)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Commit what is claimed and watch that it is paid, until cancelled."""
        for raw in await self._store.load():
            try:
                kept = decode(raw, _Kept, size_max=KEPT_BYTES_MAX)
                if (kept.receipt.job, kept.receipt.unit) not in self._claims:  # known: began again
                    self._take_up(kept.receipt, kept.feeds)
            except WireError as error:  # one damaged file must not keep the node down
                log.error("a kept receipt cannot be read: %s", error.what)  # noqa: TRY400 - no traceback for a person
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._commit_all)
            nursery.start_soon(self._watch, nursery)
            nursery.start_soon(free_bonds, self._chain, self._claims.keys)
            task_status.started()

    @property
    def unpaid(self) -> tuple[WorkReceipt, ...]:
        """Receipts of units that are not settled yet."""
        return tuple(claim.receipt for claim in self._claims.values())

    @property
    def unbound(self) -> int:
        """Receipts that no block and no refusal has answered yet."""
        return sum(not claim.committed.is_set() for claim in self._claims.values())

    async def add(self, receipt: WorkReceipt, feeds: Sequence[Feed] = ()) -> Claim:
        """Sign a receipt, keep it and queue its commitment.

        A unit has one receipt of ours, the first, whatever is claimed of it later: its hash may be
        on the ledger, or come there after we stopped waiting, and without it we are not paid.

        Args:
            receipt: not signed yet.
            feeds: the requester's word for its batches, verified; shown where workers differ in
                what went in.
        """
        key = (receipt.job, receipt.unit)
        async with self._adding:  # or two callers would sign two receipts for the same work
            known = self._claims.get(key)
            if known is not None:  # a commitment that failed is tried again by `_watch` alone
                return known
            signed = sign_receipt(receipt, self._chain.signer)
            await self._store.keep(*key, encode(_Kept(signed, tuple(feeds))))
            return self._take_up(signed, tuple(feeds))

    def has(self, job: bytes, unit: int) -> bool:
        """Is there a receipt of ours: kept here, or bound and lost?"""
        bound = self._chain.committed(job, unit, self._chain.address)
        return bound is not None or (job, unit) in self._claims

    async def show(self, claim: Claim) -> bytes:
        """Canonical bytes of the receipt, once its hash is on the ledger.

        Raises:
            PrsmError: the ledger refused the commitment.
        """
        await claim.committed.wait()
        while not claim.committed.is_set():  # it failed, and was queued again before we ran
            await claim.committed.wait()
        if claim.error is not None:
            raise claim.error
        return encode(claim.receipt)

    def _take_up(self, receipt: WorkReceipt, feeds: tuple[Feed, ...] = ()) -> Claim:
        claim = Claim(receipt, receipt_hash(receipt), feeds)
        self._claims[receipt.job, receipt.unit] = claim
        self._queue(claim)
        return claim

    # -- commitments

    def _queue(self, claim: Claim) -> None:
        if claim.committed.is_set():  # else somebody may wait for it
            claim.committed, claim.error = trio.Event(), None
        try:
            self._send.send_nowait(claim)
        except trio.WouldBlock:
            self._fail(claim, TransactionFailed(f"{CLAIMS_MAX} receipts wait for their commitment"))

    async def _commit_all(self) -> None:
        async for first in self._receive:
            claims = [first]
            with suppress(trio.WouldBlock):
                while len(claims) < UNITS_MAX:
                    claims.append(self._receive.receive_nowait())
            try:
                error = await self._commit(claims)
                if error is None or len(claims) == 1:
                    self._note(claims, error)
                    continue
                for claim in claims:  # one bad row fails them all: each for itself
                    self._note([claim], await self._commit([claim]))
            finally:
                for claim in claims:
                    if not claim.committed.is_set():  # cut by a crash: for the next run
                        self._queue(claim)

    async def _commit(self, claims: list[Claim]) -> PrsmError | None:
        rows = tuple(self._row(claim) for claim in claims if not self._is_bound(claim))
        if not rows:
            return None
        try:
            await commit(self._chain, COMMIT, Commit(rows))
        except PrsmError as error:
            return error
        return None

    def _row(self, claim: Claim) -> CommitRow:
        receipt = claim.receipt
        job, did = self._chain.job(receipt.job), [batch.index for batch in receipt.batches]
        said = b"" if job is None else job.bits_of(receipt.unit, did)  # None: the ledger refuses it
        return CommitRow(receipt.job, receipt.unit, claim.digest, said)

    def _is_bound(self, claim: Claim) -> bool:
        found = self._chain.committed(claim.receipt.job, claim.receipt.unit, self._chain.address)
        return found is not None and found.receipt_hash == claim.digest

    def _note(self, claims: list[Claim], error: PrsmError | None) -> None:
        for claim in claims:
            # Refused, or not waited for any longer: an earlier try may be in a block all the same.
            if error is not None and not self._is_bound(claim):
                self._fail(claim, error)
                continue
            claim.error, claim.committed_ms = None, self._chain.block_time_ms()
            claim.committed.set()

    def _fail(self, claim: Claim, error: PrsmError) -> None:
        log.warning("receipt of unit %d is not committed: %s", claim.receipt.unit, error.what)
        claim.error = error
        claim.committed.set()

    # -- paid, or not

    async def _watch(self, nursery: trio.Nursery) -> None:
        while True:
            now = self._chain.block_time_ms()
            for key, claim in list(self._claims.items()):
                job = self._chain.job(key[0])
                if job is None or not job.is_open or job.verdicts[key[1]] is not None:
                    await self._drop(key, job)
                elif not _is_in_time(job, key[1], now):
                    continue
                elif claim.error is not None and self._is_bound(claim):
                    self._note([claim], None)  # a block took it after we stopped waiting
                elif self._is_due(key, claim, now):
                    self._tries[key] = now
                    nursery.start_soon(self._settle_alone, claim, job)
                elif self._is_stuck(job, claim, now):
                    self._tries[key] = now
                    self._queue(claim)
            await self._chain.wait_height(self._chain.height() + 1)

    def _is_due(self, key: tuple[bytes, int], claim: Claim, now: int) -> bool:
        if not claim.committed.is_set() or claim.error is not None:
            return False
        if not self._chain.may_settle(*key):
            return False
        since = max(self._tries.get(key, 0), claim.committed_ms)
        return now - since >= self._settle_after_ms

    def _is_stuck(self, job: Job, claim: Claim, now: int) -> bool:
        """Did the commitment fail for a reason that may have passed: no block, no free pledge?"""
        key = job.job, claim.receipt.unit
        if claim.error is None or self._chain.committed(*key, self._chain.address) is not None:
            return False
        is_later = now - self._tries.setdefault(key, now) >= self._settle_after_ms
        return is_later and self._chain.bond_of(job, key[1]) <= self._chain.free_pledge()

    async def _drop(self, key: tuple[bytes, int], job: Job | None) -> None:
        claim = self._claims.pop(key)
        self._tries.pop(key, None)
        if self._on_over is not None:  # before its file goes: a crash between tells it twice
            await self._on_over(claim.receipt, job)
        if not claim.committed.is_set():
            self._fail(claim, JobClosed("the unit was settled without this receipt"))
        try:
            await self._store.drop(*key)
        except PrsmError as error:
            log.warning("receipt of unit %d stays on the disk: %s", key[1], error.what)

    async def _settle_alone(self, claim: Claim, job: Job) -> None:
        unit = claim.receipt.unit
        shown = [_Kept(claim.receipt, claim.feeds)]
        offers = await ask_all(self._network, self._chain, self._verifier)
        peers = {offer.worker: offer.peer for offer in offers}
        for worker in job.units[unit].workers:
            if worker in peers:
                with trio.move_on_after(ASK_S):
                    shown += await self._ask(claim, worker, peers[worker])
        spec, receipts = job.units[unit], [each.receipt for each in shown]
        feeds = _needed(shown, self._chain.sampling(job.job, unit)) or claim.words()
        is_torn = bool(rule_on(receipts, feeds, spec).torn)  # the requester fed us differently
        if not is_torn and not is_decided(receipts, spec, is_open_ended=job.is_open_ended):
            log.info("unit %d cannot be settled yet: %d receipts", unit, len(shown))
            return
        try:
            settle = Settle(job.job, unit, tuple(encode(receipt) for receipt in receipts), feeds)
            await commit(self._chain, SETTLE, settle)
        except PrsmError as error:
            claim.breaks += _BROKEN in error.what.lower()
            log.warning("unit %d is not settled: %s", unit, error.what)

    async def _ask(self, claim: Claim, worker: bytes, peer: PeerId) -> list[_Kept]:
        unsigned = AskReceipt(
            job=claim.receipt.job,
            unit=claim.receipt.unit,
            worker=worker,
            asker=self._chain.address,
            receipt_hash=claim.digest,
            signature=bytes(64),
        )
        statement = ask_receipt_statement(
            unsigned, chain_id=self._chain.chain_id, asker_peer=self._network.peer_id
        )
        try:
            ask = msgspec.structs.replace(unsigned, signature=self._chain.signer.sign(statement))
            answer, tail = await self._network.call(peer, ask, channel=Channel.CTL)
            if not isinstance(answer, ShownReceipt):
                return []
            receipt = decode(answer.receipt, WorkReceipt, size_max=TRANSACTION_BYTES_MAX)
            feeds: tuple[Feed, ...] = ()
            if tail:
                feeds = decode(tail, tuple[Feed, ...], size_max=KEPT_BYTES_MAX)
        except PrsmError as error:
            log.debug("no receipt of %s: %s", peer, error.what)
            return []
        right = (receipt.job, receipt.unit, receipt.worker) == (ask.job, ask.unit, worker)
        if not right or not is_signed(receipt, self._verifier):
            return []
        return [_Kept(receipt, tuple(feed for feed in feeds if self._is_word(feed, ask)))]

    def _is_word(self, feed: Feed, ask: AskReceipt) -> bool:
        """Did the requester of that unit sign it?"""
        job = self._chain.job(ask.job)
        if job is None or (feed.job, feed.unit) != (ask.job, ask.unit):
            return False
        chain_id = self._chain.chain_id
        return is_fed(feed, job.requester, chain_id=chain_id, verifier=self._verifier)

    async def _answer(self, incoming: Incoming) -> Answer:
        await trio.lowlevel.checkpoint()
        ask = incoming.message
        assert isinstance(ask, AskReceipt)
        claim = self._claims.get((ask.job, ask.unit))
        if claim is None or ask.worker != self._chain.address:
            raise UnknownJob("no receipt of that unit is kept here")
        statement = ask_receipt_statement(
            ask, chain_id=self._chain.chain_id, asker_peer=incoming.peer
        )
        if not self._verifier.verify(ask.asker, statement, ask.signature):
            raise BadSignature("a receipt was asked for in another's name", peer=incoming.peer)
        theirs = self._chain.committed(ask.job, ask.unit, ask.asker)
        if theirs is None or theirs.receipt_hash != ask.receipt_hash:
            raise NotNamed("commit to your own receipt of this unit first")
        if not self._is_bound(claim):
            raise UnknownJob("our own receipt is not on the ledger yet")
        return ShownReceipt(encode(claim.receipt)), encode(claim.feeds)


def _is_in_time(job: Job, unit: int, now_ms: int) -> bool:
    """May it still be settled? Work nobody compares may wait for its audit past the deadline."""
    return now_ms < job.deadline_ms or job.is_sampled(unit)


def _needed(shown: Sequence[_Kept], sampling: Sampling | None) -> tuple[Feed, ...]:
    """Feeds of the batches on whose inputs workers, or an auditor and its worker, differ.

    Where a requester fed its workers differently, each one's feed explains what it did.
    """
    said: dict[int, set[tuple[bytes, bytes]]] = {}
    for each in shown:
        for batch in each.receipt.batches:
            said.setdefault(batch.index, set()).add((batch.input_root, batch.side_root))
    if sampling is not None and sampling.audited is not None:
        audited = sampling.audited
        said.setdefault(audited.batch, set()).add((audited.input_root, audited.side_root))
    doubted = [index for index, roots in sorted(said.items()) if len(roots) > 1]
    feeds = [f for index in doubted for each in shown for f in each.feeds if f.batch == index]
    return tuple(feeds[:FEEDS_MAX])
