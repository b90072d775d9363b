"""What a unit came to, read off the ledger's verdict; a disk that refuses costs the note alone."""

from pathlib import Path

import msgspec
import pytest
import trio

from prsm.consensus.ledger.records import Job, JobStatus, Opinion, Verdict
from prsm.node.inference.earned import Earnings, ended_of
from prsm.protocol.receipts import RECEIPT_VERSION, BatchResult, Measured, WorkKind, WorkReceipt
from prsm.storage.errors import StoreUnavailable

US = b"w" * 32


def receipt() -> WorkReceipt:
    return WorkReceipt(
        version=RECEIPT_VERSION,
        chain_id=b"testnet1",
        job=b"j" * 32,
        unit=0,
        kind=WorkKind.INFER,
        worker=US,
        model=bytes(36),
        stages=1,
        stage=0,
        class_id=bytes(32),
        batches=(BatchResult(0, 3, bytes(32), bytes(32), bytes(32)),),
        measured=Measured(0, 3, 0, 0),
        price_per_row=10,
        started_height=1,
        ended_height=1,
        signature=bytes(64),
    )


def job(*opinions: Opinion) -> Job:
    verdict = Verdict(9, 1, bytes(32), bytes(32), opinions, 0, None, 0)
    return Job(
        job=b"j" * 32,
        requester=b"r" * 32,
        tenant=b"",
        asset=0,
        parent=None,
        depth=1,
        batch_rows=(3,),
        units=(),
        shares=(),
        treasury_bps=500,
        deadline_ms=1,
        opened_height=1,
        status=JobStatus.SETTLED,
        locked=0,
        budget=0,
        children=0,
        verdicts=(verdict,),
        is_open_ended=False,
    )


def opinion(worker: bytes, *, wrong: int = 0, paid: int = 0) -> Opinion:
    return Opinion(worker, bytes(32), 1, 3, wrong, paid)


def test_verdict_names_what_we_were_paid_and_where_we_were_wrong() -> None:
    settled = job(opinion(b"o" * 32, paid=1), opinion(US, paid=29))
    ended = ended_of(receipt(), settled, height=12, time_ms=5)
    assert (ended.paid, ended.wrong, ended.is_counted, ended.height) == (29, 0, True, 9)
    assert (ended.requester, ended.kind, ended.rows, ended.price_per_row) == (
        *(b"r" * 32, "infer", 3),
        10,
    )
    assert ended_of(receipt(), job(opinion(US, wrong=1)), height=12, time_ms=5).wrong == 1


def test_settlement_without_our_receipt_paid_nothing() -> None:
    for found in (job(opinion(b"o" * 32, paid=30)), None):
        ended = ended_of(receipt(), found, height=12, time_ms=5)
        assert (ended.paid, ended.is_counted) == (0, False)
    unsettled = msgspec.structs.replace(job(), verdicts=(None,))
    assert ended_of(receipt(), unsettled, height=12, time_ms=5).height == 12
    assert ended_of(receipt(), None, height=12, time_ms=5).requester == b""


async def test_notes_are_there_while_it_runs(tmp_path: Path, nursery: trio.Nursery) -> None:
    earnings = Earnings(tmp_path / "earnings.db")
    await nursery.start(earnings.run)
    ended = ended_of(receipt(), job(opinion(US, paid=29)), height=12, time_ms=5)
    await earnings.note(ended)
    page = await earnings.page(10, before=None, since_ms=0)
    assert [one for _, one in page] == [ended]
    assert (await earnings.sums(since_ms=0)).paid == 29


async def test_damaged_file_keeps_nothing_down(tmp_path: Path, nursery: trio.Nursery) -> None:
    """The part starts, notes are dropped, and whoever asks hears why."""
    (tmp_path / "earnings.db").write_bytes(b"no database " * 1000)
    earnings = Earnings(tmp_path / "earnings.db")
    await nursery.start(earnings.run)
    await earnings.note(ended_of(receipt(), None, height=1, time_ms=1))
    with pytest.raises(StoreUnavailable) as caught:
        await earnings.sums(since_ms=0)
    assert "move data/earnings.db away" in (caught.value.hint or "")
