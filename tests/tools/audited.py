"""One worker nobody compares with, auditors and jurors, on the real rules of a chain in process."""

from dataclasses import dataclass, field
from typing import Final

import msgspec

from prsm.consensus.ledger.audit_records import (
    PLEDGERS_KEY,
    Pledged,
    Pledger,
    Pledgers,
    pledged_key,
)
from prsm.consensus.ledger.audits import Sampling
from prsm.protocol.codec import encode
from prsm.protocol.genesis import Genesis, Parameters
from prsm.protocol.limits import PLEDGERS_MAX
from prsm.protocol.receipts import Feed, WorkReceipt, receipt_hash, sign_feed
from prsm.protocol.signing import sha256
from prsm.protocol.transactions.audits import (
    Audit,
    Dispute,
    Finding,
    Judge,
    Pledge,
    Seal,
    sealed,
    sign_as_juror,
)
from prsm.protocol.transactions.payloads import Lock
from prsm.protocol.transactions.results import Code, TxReceipt
from prsm.testnet.chain import Chain, signer_of, small_genesis
from prsm.testnet.jobs import REQUESTER, Work, commit_of, lock_of, open_job, settle_of, unit_of

WORKER: Final = 65
AUDITORS: Final = (66, 67, 68, 69)
PLEDGE: Final = 20_000_000
ROWS: Final = 10
PRICE: Final = 1_000
GROSS: Final = ROWS * PRICE
BOND: Final = 20 * GROSS


def genesis_of(**changes: int) -> Genesis:
    """Parameters of the defaults, every unit drawn unless said otherwise."""
    given = {"tree_bits": 8, "audit_bps": 10_000, **changes}
    return small_genesis(parameters=Parameters(**given))  # type: ignore[arg-type]  # by name


@dataclass
class Scene:
    """A job of one unit, its worker pledged, and who may be drawn."""

    chain: Chain = field(default_factory=lambda: Chain(genesis_of()))
    lock: Lock = field(
        default_factory=lambda: lock_of("alone", unit_of(workers=(WORKER,), price=PRICE))
    )

    def begin(self) -> "Scene":
        """Pledge for all, lock the job."""
        for number in (WORKER, *AUDITORS):
            assert self.chain.send(number, Pledge(PLEDGE)).code is Code.DONE
        open_job(self.chain, self.lock)
        return self

    def bound(self, work: Work | None = None) -> WorkReceipt:
        """Commit the worker's receipt; the beacon of the next block is there after it."""
        receipt = (work or Work(WORKER)).receipt(self.chain, self.lock)
        assert self.chain.send(WORKER, commit_of(self.lock, receipt)).code is Code.DONE
        self.chain.add()
        return receipt

    def sampling(self) -> Sampling:
        found = self.chain.ledger.view.sampling(self.lock.job, 0)
        assert found is not None
        return found

    def auditor(self) -> int:
        """Number of the first account drawn."""
        draw = self.sampling().draw
        assert draw is not None
        return next(n for n in AUDITORS if signer_of(n).public_key == draw.auditors[0])

    def audit(self, work: Work | None = None, *, sender: int | None = None) -> TxReceipt:
        """What an honest auditor says of the drawn batch, or another word."""
        found = self.sampling()
        assert found.batch is not None
        receipt = (work or Work(WORKER)).receipt(self.chain, self.lock)
        said = next(batch for batch in receipt.batches if batch.index == found.batch)
        payload = Audit(
            self.lock.job, 0, said.index, said.input_root, said.side_root, said.output_root
        )
        return self.chain.send(self.auditor() if sender is None else sender, payload)

    def settle(self, receipt: WorkReceipt, *, sender: int = REQUESTER) -> TxReceipt:
        return self.chain.send(sender, settle_of(self.lock, 0, [receipt]))

    def dispute(self, receipt: WorkReceipt, batch: int = 0, **changes: object) -> TxReceipt:
        payload = Dispute(self.lock.job, 0, batch, encode(receipt))
        return self.chain.send(REQUESTER, msgspec.structs.replace(payload, **changes))

    def found(self, receipt: WorkReceipt, number: int, finding: Finding) -> Judge:
        """A finding of validator `number`, signed."""
        unsigned = Judge(self.lock.job, 0, signer_of(32 + number).public_key, finding, bytes(64))
        return sign_as_juror(
            unsigned,
            signer_of(number),
            chain_id=self.chain.genesis.chain_id,
            receipt_hash=receipt_hash(receipt),
        )

    def seal(
        self, receipt: WorkReceipt, number: int, finding: Finding, *, by: int | None = None
    ) -> TxReceipt:
        """Seal a finding of validator `number`, sent by anybody."""
        digest = sealed(self.found(receipt, number, finding))
        unsigned = Seal(self.lock.job, 0, signer_of(32 + number).public_key, digest, bytes(64))
        signed = sign_as_juror(
            unsigned,
            signer_of(number if by is None else by),
            chain_id=self.chain.genesis.chain_id,
            receipt_hash=receipt_hash(receipt),
        )
        return self.chain.send(70, signed)

    def judge(self, receipt: WorkReceipt, number: int, finding: Finding) -> TxReceipt:
        """Show a finding of validator `number`, sent by anybody."""
        return self.chain.send(70, self.found(receipt, number, finding))

    def end_sealing(self) -> None:
        """Let the time pass in which findings are sealed."""
        case = self.chain.ledger.view.case(self.lock.job, 0)
        assert case is not None
        self.chain.add(step_ms=max(1, case.opens_ms - self.chain.ledger.tip.time_ms))

    def sealed(self, receipt: WorkReceipt, *findings: Finding) -> None:
        """Seal findings of the validators in their order, until they may be shown."""
        results = [self.seal(receipt, n, finding) for n, finding in enumerate(findings)]
        assert all(result.code is Code.DONE for result in results)
        if len(findings) < len(self.chain.genesis.validators):
            self.end_sealing()

    def verdict(self, receipt: WorkReceipt, *findings: Finding) -> TxReceipt:
        """Seal and show findings of the validators in their order; what the last did."""
        self.sealed(receipt, *findings)
        results = [self.judge(receipt, n, finding) for n, finding in enumerate(findings)]
        assert all(result.code is Code.DONE for result in results)
        return results[-1]

    def funds(self, number: int) -> int:
        return self.chain.ledger.view.account(signer_of(number).public_key)

    def pledge(self, number: int) -> tuple[int, int]:
        found = self.chain.ledger.view.pledge(signer_of(number).public_key)
        return (found.amount, found.held)


def crowd_in(chain: Chain, amount: int) -> None:
    """Fill the list of who may be drawn with accounts that have pledged so much, from now on."""
    listed = list(chain.ledger.view.pledgers())
    for number in range(PLEDGERS_MAX - len(listed)):
        account = sha256(b"crowd", number.to_bytes(2, "big"))
        chain.ledger._state[pledged_key(account)] = encode(Pledged(amount, 0))
        listed.append(Pledger(account, chain.ledger.height))
    ordered = tuple(sorted(listed, key=lambda entry: entry.account))
    chain.ledger._state[PLEDGERS_KEY] = encode(Pledgers(ordered))


def bound(chain: Chain, lock: Lock, *works: Work, unit: int = 0) -> list[WorkReceipt]:
    """Commit what each says of a unit; the receipts."""
    receipts = [work.receipt(chain, lock, unit) for work in works]
    for work, receipt in zip(works, receipts, strict=True):
        assert chain.send(work.worker, commit_of(lock, receipt)).code is Code.DONE
    return receipts


def fed(
    chain: Chain, lock: Lock, work: Work, batch: int, *, unit: int = 0, signer: int = REQUESTER
) -> Feed:
    """What the requester signed when it pushed this batch to this worker."""
    said = work.batch(lock, unit, batch)
    feed = Feed(lock.job, unit, batch, said.input_root, said.side_root, bytes(64))
    return sign_feed(feed, signer_of(signer), chain_id=chain.genesis.chain_id)
