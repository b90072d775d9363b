"""Draws and cases of the ledger as this node's checks see them, and its own pledge.

A finding goes to the ledger sealed, and is shown once nobody can seal any more.

Joins the port `Court` of node/inference to driver, wallet and consensus keys. Follows the events
of blocks, so that no state is scanned but at the start and after a snapshot. Must not know how a
check is done.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import trio

from prsm.consensus.ledger.audit_records import Case, Juror, Pledged
from prsm.consensus.ledger.audits import Sampling
from prsm.consensus.ledger.context import Bound, CaseOpened
from prsm.consensus.ledger.seals import may_open
from prsm.consensus.ledger.view import View
from prsm.node.chain.driver import Driver, Head
from prsm.node.chain.wallet import WalletLocked
from prsm.node.inference.court import Duty, Opening, Trial
from prsm.node.inference.divergence import Boundary
from prsm.node.inference.interface import Chain, TransactionFailed
from prsm.node.telemetry import logs
from prsm.protocol.codec import Record
from prsm.protocol.ed25519 import Signer
from prsm.protocol.errors import PrsmError
from prsm.protocol.ids import Signature
from prsm.protocol.limits import AUDITORS_MAX, PLEDGERS_MAX
from prsm.protocol.transactions.audits import (
    Audit,
    Finding,
    Judge,
    Pledge,
    Redeem,
    Seal,
    sealed,
    sign_as_juror,
)
from prsm.protocol.transactions.payloads import AUDIT, JUDGE, PLEDGE, REDEEM, SEAL

COMMIT_S = 60.0
# All who wait for one free place pay two fees, also for one somebody frees to make them pay.
ASKS_AGAIN_MS = 3_600_000

log = logs.get("court")

_Unit = tuple[bytes, int]  # job and unit


@dataclass(frozen=True, slots=True)
class _Seat:
    """A place of ours in a committee."""

    case: Case
    juror: Juror


class LedgerCourt:
    """What this node was drawn for, by the ledger's own views.

    Args:
        driver: of the chain.
        chain: the node's account.
        keys: that it votes with, by public key.
    """

    def __init__(self, driver: Driver, chain: Chain, keys: Sequence[Signer]) -> None:
        self._driver, self._chain = driver, chain
        self._keys = {bytes(key.public_key): key for key in keys}
        self._bound: set[_Unit] = set()
        self._contested: set[_Unit] = set()
        self._height = -1
        self._look_around()
        driver.on_head.append(self._hear_head)

    def duties(self) -> Sequence[Duty]:
        """Audits this node may do now: the first that is drawn at once, each further one later."""
        return tuple(self._duties())

    def trials(self) -> Sequence[Trial]:
        """Cases in which an operator of this node has not sealed a finding, and may."""
        now = self._chain.block_time_ms()
        return tuple(
            _trial(job, unit, seat)
            for job, unit, seat in self._seats()
            if seat.juror.seal is None and now < seat.case.opens_ms
        )

    def openings(self) -> Sequence[Opening]:
        """What operators of this node sealed, and may show now."""
        now = self._chain.block_time_ms()
        return tuple(
            Opening(job, unit, seat.juror.operator, seat.juror.seal)
            for job, unit, seat in self._seats()
            if seat.juror.seal is not None and may_open(seat.case, time_ms=now)
        )

    def may_see(self, asker: bytes, job: bytes, unit: int, worker: bytes) -> bool:
        """Was this key drawn, as an auditor's account or a juror's consensus key?"""
        view = self._driver.ledger.view
        case = view.case(job, unit)
        if case is not None:
            return case.worker == worker and any(j.consensus == asker for j in case.jurors)
        found = view.sampling(job, unit)
        if found is None or found.draw is None or found.worker != worker:
            return False
        return asker in found.draw.auditors

    def signer(self, check: Duty | Trial) -> Signer:
        """The wallet's key for an audit, the consensus key of the case's time for a trial.

        Raises:
            WalletLocked: nobody unlocked the wallet.
        """
        if isinstance(check, Duty):
            return self._chain.signer
        return self._keys[self._our_seat(check.job, check.unit).juror.consensus]

    async def audit(self, duty: Duty, found: Boundary) -> None:
        """Send what we computed of the batch.

        Raises:
            LocalError: refused by the mempool or by the ledger.
        """
        await self._commit(
            AUDIT,
            Audit(
                job=duty.job,
                unit=duty.unit,
                batch=duty.batch,
                input_root=found.input_root,
                side_root=found.side_root,
                output_root=found.output_root,
            ),
        )

    async def judge(self, trial: Trial, finding: Finding) -> None:
        """Seal what we found, in the name of the operator that was drawn.

        Raises:
            LocalError: as `audit`.
        """
        seat = self._our_seat(trial.job, trial.unit)
        digest = sealed(self._signed(trial.job, trial.unit, seat, finding))
        signed = sign_as_juror(
            Seal(trial.job, trial.unit, trial.juror, digest, Signature(bytes(64))),
            self.signer(trial),
            chain_id=self._chain.chain_id,
            receipt_hash=trial.receipt_hash,
        )
        await self._commit(SEAL, signed)

    async def open(self, opening: Opening) -> None:
        """Show what we sealed.

        Signatures of one key over one statement are equal, so the seal itself says which of the
        findings it is: nothing is kept, and a node that started again can open.

        Raises:
            LocalError: as `audit`.
        """
        seat = self._our_seat(opening.job, opening.unit)
        for finding in Finding:
            signed = self._signed(opening.job, opening.unit, seat, finding)
            if sealed(signed) == opening.seal:
                await self._commit(JUDGE, signed)
                return
        raise TransactionFailed("what stands sealed in our name is no finding of our key")

    def _look_around(self) -> None:
        """Read what events told before we heard them: at the start, and after a snapshot."""
        ledger = self._driver.ledger
        self._bound |= set(ledger.view.bound())
        self._contested |= set(ledger.view.cases())
        self._height = ledger.height

    def _hear_head(self, head: Head) -> None:
        height = head.block.header.height
        if height != self._height + 1:
            self._look_around()
        self._height = height
        for event in head.outcome.events:
            if isinstance(event, Bound):
                self._bound.add((event.job, event.unit))
            elif isinstance(event, CaseOpened):
                self._contested.add((event.job, event.unit))

    def _duties(self) -> Iterator[Duty]:
        view, now, us = self._driver.ledger.view, self._chain.block_time_ms(), self._chain.address
        for job, unit in sorted(self._bound):
            found = view.sampling(job, unit)
            if found is None or now >= found.until_ms:
                self._bound.discard((job, unit))
            elif found.audited is None and found.case is None and _is_turn(found, us, now):
                assert found.batch is not None
                yield Duty(job, unit, found.worker, found.batch, found.until_ms)

    def _seats(self) -> Iterator[tuple[bytes, int, _Seat]]:
        for job, unit in sorted(self._contested):
            seat = self._seat(job, unit)
            if seat is not None:
                yield job, unit, seat

    def _our_seat(self, job: bytes, unit: int) -> _Seat:
        seat = self._seat(job, unit)
        if seat is None:
            raise TransactionFailed("the case is closed, or we have spoken")
        return seat

    def _signed(self, job: bytes, unit: int, seat: _Seat, finding: Finding) -> Judge:
        unsigned = Judge(job, unit, seat.juror.operator, finding, Signature(bytes(64)))
        return sign_as_juror(
            unsigned,
            self._keys[seat.juror.consensus],
            chain_id=self._chain.chain_id,
            receipt_hash=seat.case.receipt_hash,
        )

    def _seat(self, job: bytes, unit: int) -> _Seat | None:
        case = self._driver.ledger.view.case(job, unit)
        if case is None or self._chain.block_time_ms() >= case.until_ms:
            self._contested.discard((job, unit))
            return None
        for juror in case.jurors:
            if juror.consensus in self._keys and not juror.finding:
                return _Seat(case, juror)
        return None

    async def _commit(self, kind: int, payload: Record) -> None:
        with trio.move_on_after(COMMIT_S):
            sent = await self._chain.submit(kind, payload)
            result = await self._chain.wait_committed(sent)
            if not result.ok:
                raise TransactionFailed(f"the ledger refused what we found: {result.code}")
            return
        raise TransactionFailed(f"no block took what we found within {COMMIT_S:g} s")


class Bonding:
    """Keeps an amount pledged, so that paid work may be given to this node alone.

    Args:
        chain: the node's account.
        view: what the ledger has of it now.
        amount: micro-FTNS; what was lost is put up again, what is above it and free comes back.
    """

    def __init__(self, chain: Chain, view: Callable[[], View], amount: int) -> None:
        self._chain, self._view, self._amount = chain, view, amount
        self._is_out = False  # as far as was said
        self._asks_ms = 0  # block time from which it asks for a place again

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look after each block until cancelled."""
        task_status.started()
        while True:
            view = self._view()
            pledge = view.pledge(self._chain.address)
            asks = self._should_ask_again(view, pledge)
            surplus = min(pledge.amount - self._amount, pledge.amount - pledge.held)
            if pledge.amount < self._amount:
                await self._send(PLEDGE, Pledge(self._amount - pledge.amount))
            elif surplus > 0:
                await self._send(REDEEM, Redeem(surplus))
            elif asks:  # the least there is; as surplus it comes back
                await self._send(PLEDGE, Pledge(1))
            await self._chain.wait_height(self._chain.height() + 1)

    def _should_ask_again(self, view: View, pledge: Pledged) -> bool:
        """Is a list that was full when we pledged not full any more? Says once that it is."""
        listed = view.pledgers()
        may_be_drawn = pledge.amount >= max(1, view.parameters().pledge_min)
        is_out = may_be_drawn and all(entry.account != self._chain.address for entry in listed)
        if is_out and not self._is_out:
            log.warning(
                "pledged, but drawn neither as auditor nor as evaluator: the list was full",
                listed=len(listed),
                room=PLEDGERS_MAX,
            )
        self._is_out = is_out
        now_ms = self._chain.block_time_ms()
        if not is_out or len(listed) >= PLEDGERS_MAX or now_ms < self._asks_ms:
            return False
        self._asks_ms = now_ms + ASKS_AGAIN_MS
        return True

    async def _send(self, kind: int, payload: Pledge | Redeem) -> None:
        with trio.move_on_after(COMMIT_S):
            try:
                await self._chain.wait_committed(await self._chain.submit(kind, payload))
            except WalletLocked:
                return
            except PrsmError as error:
                log.warning("the bond is not as configured", amount=payload.amount, why=error.what)


def _is_turn(found: Sampling, account: bytes, now_ms: int) -> bool:
    """Is it this account's turn to audit?

    The first to answer is heard, and the others have computed and paid a fee for nothing: so the
    n-th of those drawn leaves the n - 1 before it a quarter of the window each.
    """
    auditors = () if found.draw is None else found.draw.auditors
    if account not in auditors:
        return False
    window_ms = found.until_ms - found.committed.time_ms
    waits_ms = auditors.index(account) * window_ms // (AUDITORS_MAX + 1)
    return now_ms >= found.committed.time_ms + waits_ms


def _trial(job: bytes, unit: int, seat: _Seat) -> Trial:
    case = seat.case
    stated = Boundary(case.batch.input_root, case.batch.side_root, case.batch.output_root)
    return Trial(
        job=job,
        unit=unit,
        worker=case.worker,
        batch=case.batch.index,
        stated=stated,
        class_id=case.class_id,
        receipt_hash=case.receipt_hash,
        juror=seat.juror.operator,
        until_ms=case.opens_ms,
    )
