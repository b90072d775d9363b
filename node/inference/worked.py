"""The receipt of a unit that was worked on: the lock's terms, what was done, what it cost.

Pure; the same for every kind of work. Must not know how it was done, nor who signs.
Source: docs/spec/work.md, "Receipt".
"""

from collections.abc import Sequence
from typing import Protocol

from prsm.consensus.ledger.records import Job
from prsm.protocol.receipts import RECEIPT_VERSION, BatchResult, Measured, WorkReceipt


class Worked(Protocol):
    """One unit of a locked job as its worker keeps it."""

    job: Job
    unit: int
    class_id: bytes
    compute_us: int
    bytes_in: int
    bytes_out: int
    started_height: int


def receipt_of(
    worked: Worked, batches: Sequence[BatchResult], *, chain_id: bytes, worker: bytes, height: int
) -> WorkReceipt:
    """State what was done, not signed yet.

    Args:
        worked: whose terms are those of its lock.
        batches: at least one, ascending.
        chain_id: of the network.
        worker: payment key.
        height: of this node's ledger now.
    """
    assert batches
    spec = worked.job.units[worked.unit]
    return WorkReceipt(
        version=RECEIPT_VERSION,
        chain_id=chain_id,
        job=worked.job.job,
        unit=worked.unit,
        kind=spec.kind,
        worker=worker,
        model=spec.model,
        stages=spec.stages,
        stage=spec.stage,
        class_id=worked.class_id,
        batches=tuple(batches),
        measured=Measured(
            cpu_ms=worked.compute_us // 1000,
            rows=sum(batch.rows for batch in batches),
            bytes_in=worked.bytes_in,
            bytes_out=worked.bytes_out,
        ),
        price_per_row=spec.price_per_row,
        started_height=worked.started_height,
        ended_height=height,
        signature=bytes(64),
    )
