"""Paid work on a chain of one process: locks, receipts and settlements of numbered workers.

For tests and golden vectors. Roots are hashes of short texts: no model runs here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from prsm.consensus.ledger.receipt_document import (
    Json,
    Settlement,
    proof_keys,
    receipt_document,
    settlement_heights,
)
from prsm.protocol import merkle
from prsm.protocol.codec import encode
from prsm.protocol.epochs import EpochState
from prsm.protocol.messages.sync import Certified, EpochProof
from prsm.protocol.receipts import (
    RECEIPT_VERSION,
    BatchResult,
    Feed,
    Measured,
    WorkKind,
    WorkReceipt,
    receipt_hash,
    sign_receipt,
)
from prsm.protocol.signing import sha256
from prsm.protocol.transactions.payloads import (
    Commit,
    CommitRow,
    Lock,
    Settle,
    Share,
    Unit,
)
from prsm.protocol.transactions.results import Code, TxReceipt
from prsm.testnet.chain import START_MS, Chain, signer_of

REQUESTER = 64
WORKERS = (65, 66, 67)
MODEL = bytes.fromhex("01551220") + sha256(b"a manifest")


def unit_of(
    stage: int = 0,
    *,
    stages: int = 1,
    workers: Sequence[int] = WORKERS,
    price: int = 1_000,
    model: bytes = MODEL,
    span: tuple[int, int] = (0, 3),
) -> Unit:
    """A unit of inference by numbered workers, more than half of whom must agree.

    Args:
        stage: of the model.
        stages: of the model.
        workers: numbers of their keys.
        price: micro-FTNS a row.
        model: CID of the manifest.
        span: its first batch, and how many it has.
    """
    return Unit(
        kind=WorkKind.INFER,
        model=model,
        stages=stages,
        stage=stage,
        first=span[0],
        count=span[1],
        needed=len(workers) // 2 + 1,
        price_per_row=price,
        rates=None,
        workers=tuple(signer_of(worker).public_key for worker in workers),
    )


def lock_of(
    name: str = "job",
    *units: Unit,
    parent: bytes | None = None,
    rows: Sequence[int] = (4, 4, 2),
    budget: int = 0,
    shares: Sequence[Share] = (),
    deadline_ms: int = START_MS + 600_000,
) -> Lock:
    """Terms of a job; its id is the hash of its name."""
    return Lock(
        job=sha256(name.encode()),
        tenant=b"lab",
        asset=0,
        parent=parent,
        batch_rows=tuple(rows),
        units=units or (unit_of(span=(0, len(rows))),),
        budget=budget,
        shares=tuple(shares),
        deadline_ms=deadline_ms,
        is_open_ended=False,
    )


@dataclass(frozen=True, slots=True)
class Work:
    """What a worker says it did for a unit.

    Args:
        worker: number of its key.
        wrong: batch index -> a word its output root is made of instead of "right".
        only: the batches it did; all if None.
        flow: name of the data; the stages of one job share it.
    """

    worker: int
    wrong: Mapping[int, str] = field(default_factory=dict)
    only: Sequence[int] | None = None
    flow: str = "flow"

    def receipt(self, chain: Chain, lock: Lock, unit: int = 0) -> WorkReceipt:
        """The signed receipt."""
        key, spec = signer_of(self.worker), lock.units[unit]
        indexes = spec.batches if self.only is None else self.only
        batches = tuple(self.batch(lock, unit, index) for index in indexes)
        unsigned = WorkReceipt(
            version=RECEIPT_VERSION,
            chain_id=chain.genesis.chain_id,
            job=lock.job,
            unit=unit,
            kind=spec.kind,
            worker=key.public_key,
            model=spec.model,
            stages=spec.stages,
            stage=spec.stage,
            class_id=sha256(b"a class"),
            batches=batches,
            measured=Measured(cpu_ms=7, rows=10, bytes_in=100, bytes_out=200),
            price_per_row=spec.price_per_row,
            started_height=chain.ledger.height,
            ended_height=chain.ledger.height + 1,
            signature=bytes(64),
        )
        return sign_receipt(unsigned, key)

    def batch(self, lock: Lock, unit: int, index: int) -> BatchResult:
        """What its receipt says of one batch."""
        stage = lock.units[unit].stage
        return BatchResult(
            index=index,
            rows=lock.batch_rows[index],
            input_root=boundary(self.flow, stage, index),
            side_root=merkle.EMPTY_ROOT,
            output_root=boundary(self.wrong.get(index, self.flow), stage + 1, index),
        )


def boundary(flow: str, stage: int, batch: int) -> bytes:
    """Root of the rows that enter a stage."""
    return sha256(f"{flow} {stage} {batch}".encode())


def commit_of(lock: Lock, receipt: WorkReceipt) -> Commit:
    """A worker's commitment to one receipt."""
    return Commit(rows=(row_of(lock, receipt, receipt_hash(receipt)),))


def row_of(lock: Lock, receipt: WorkReceipt, digest: bytes) -> CommitRow:
    """A commitment to the batches of a receipt, with its hash or another."""
    said = b""
    if lock.is_open_ended and lock.units[receipt.unit].is_sampled:
        said = lock.units[receipt.unit].bits_of(batch.index for batch in receipt.batches)
    return CommitRow(lock.job, receipt.unit, digest, said)


def settle_of(
    lock: Lock, unit: int, receipts: Sequence[WorkReceipt], feeds: Sequence[Feed] = ()
) -> Settle:
    """A settlement of one unit."""
    return Settle(
        job=lock.job,
        unit=unit,
        receipts=tuple(encode(entry) for entry in receipts),
        feeds=tuple(feeds),
    )


def open_job(chain: Chain, lock: Lock) -> None:
    """Lock a job by the requester; it must succeed."""
    receipt = chain.send(REQUESTER, lock)
    assert receipt.code is Code.DONE, receipt


def settle_by(chain: Chain, lock: Lock, *works: Work, unit: int = 0) -> TxReceipt:
    """Commit the works in one block, settle in the next, and say what became of it."""
    receipts = [work.receipt(chain, lock, unit) for work in works]
    chain.add(
        *(
            chain.order(work.worker, commit_of(lock, receipt))
            for work, receipt in zip(works, receipts, strict=True)
        )
    )
    return chain.send(REQUESTER, settle_of(lock, unit, receipts))


def document_of(chain: Chain, lock: Lock) -> Json:
    """The receipt document of a settled job, gathered as a node gathers it.

    Adds one block when the tip does not yet prove the job's record.
    """
    job = chain.ledger.view.job(lock.job)
    assert job is not None
    heights = settlement_heights(job)
    while chain.ledger.height <= heights[-1]:
        chain.add()
    proofs = [chain.ledger.prove_certified(key) for key in proof_keys(job)]
    return receipt_document(
        chain.genesis,
        job,
        {
            height: Settlement(
                certified(chain, height),
                chain.made[height - 1].outcome.receipts,
                certified(chain, height + 1),
            )
            for height in heights
        },
        proofs=[proof for proof in proofs if proof is not None],
        proven_by=certified(chain, chain.ledger.height),
        epochs=epochs_of(chain),
    )


def epochs_of(chain: Chain) -> list[EpochProof]:
    """First header, certificate and set of each epoch of a chain."""
    states = [EpochState.genesis(chain.genesis), *(made.outcome.epoch for made in chain.made)]
    return [
        EpochProof(made.block.header, made.certificate, state.validators.members)
        for state, made in zip(states, chain.made, strict=False)
        if state.first == made.block.header.height
    ]


def certified(chain: Chain, height: int) -> Certified:
    """A committed block with its certificate."""
    made = chain.made[height - 1]
    return Certified(block=made.block, certificate=made.certificate)
