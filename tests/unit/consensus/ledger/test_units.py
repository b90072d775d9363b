"""Units of ranges, of one to three opinions, metered, and of jobs whose end is open."""

import msgspec
import pytest

from prsm.consensus.ledger.tally import charge, is_decided
from prsm.protocol.receipts import Measured, WorkKind
from prsm.protocol.transactions.payloads import Lock, Rates, Refund, Unit, unit_batches_max
from prsm.protocol.transactions.results import Code
from prsm.testnet.chain import Chain, signer_of, small_genesis
from prsm.testnet.jobs import (
    REQUESTER,
    Work,
    commit_of,
    lock_of,
    open_job,
    settle_by,
    settle_of,
    unit_of,
)


def fresh(lock: Lock) -> Chain:
    chain = Chain(small_genesis())
    open_job(chain, lock)
    return chain


def changed(unit: Unit, **fields: object) -> Unit:
    return msgspec.structs.replace(unit, **fields)


SIX = (65, 66, 67, 68, 69, 70)
BAD: list[tuple[str, tuple[Unit, ...]]] = [
    ("more needed than named", (changed(unit_of(workers=(65,)), needed=2),)),
    ("two right results possible", (changed(unit_of(workers=(65, 66)), needed=1),)),
    ("two of four", (changed(unit_of(workers=SIX[:4]), needed=2),)),
    ("beyond the job", (unit_of(span=(1, 3)),)),
    ("batches twice", (unit_of(span=(0, 2)), unit_of(span=(1, 2)))),
    ("a worker twice", (unit_of(workers=(65, 65, 66)),)),
    ("a stage too many", (unit_of(1),)),
]


@pytest.mark.parametrize("units", [row[1] for row in BAD], ids=[row[0] for row in BAD])
def test_lock_refuses_units_that_cannot_be(units: tuple[Unit, ...]) -> None:
    chain = Chain(small_genesis())
    assert chain.send(REQUESTER, lock_of("bad", *units)).code is Code.BAD_UNITS


def test_lock_refuses_more_batches_than_a_settlement_can_show() -> None:
    for workers in ((65, 66), SIX[:3], SIX[:5]):
        most = unit_batches_max(len(workers))
        rows = (1,) * (most + 1)
        for count, code in ((most + 1, Code.BAD_UNITS), (most, Code.DONE)):
            unit = unit_of(workers=workers, span=(0, count), price=1)
            chain = Chain(small_genesis())
            assert chain.send(REQUESTER, lock_of("many", unit, rows=rows)).code is code


@pytest.mark.parametrize(
    ("workers", "price", "is_sampled"),
    [((65,), 1, True), ((65,), 0, False), (SIX[:3], 1, False)],
)
def test_paid_work_of_one_is_audited_by_chance_and_no_other(
    workers: tuple[int, ...], price: int, is_sampled: bool
) -> None:
    lock = lock_of("paid", unit_of(workers=workers, price=price), budget=1)
    job = fresh(lock).ledger.view.job(lock.job)
    assert job is not None
    assert job.is_sampled(0) is is_sampled


def test_rows_of_a_stage_are_spread_over_units() -> None:
    """Each unit locks and pays its own range, and the chain holds batch by batch."""
    first, second = unit_of(0, stages=2, span=(0, 1)), unit_of(0, stages=2, span=(1, 2))
    lock = lock_of("spread", first, second, unit_of(1, stages=2, span=(0, 3)))
    chain = fresh(lock)
    assert chain.ledger.view.supply().locked == 3 * 1_000 * (4 + 6 + 10)
    assert settle_by(chain, lock, Work(65), Work(66)).detail == 1
    strayed = [Work(number, flow="stray") for number in (65, 66)]
    spread = lock_of("other", *lock.units)
    open_job(chain, spread)
    assert settle_by(chain, spread, Work(65), Work(66), unit=1).detail == 2
    assert settle_by(chain, spread, *strayed, unit=2).code is Code.CHAIN_BROKEN
    assert settle_by(chain, lock, Work(65), Work(66), unit=2).detail == 3
    assert settle_by(chain, lock, Work(65), Work(66), unit=1).code is Code.DONE
    job = chain.ledger.view.job(lock.job)
    assert job is not None
    assert not job.is_open
    assert not [key for key in chain.ledger._state if key[:33] == b"u" + lock.job]


def test_each_range_of_a_later_stage_is_held_to_the_stage_before() -> None:
    """Batches are counted from the beginning of the job, those of a unit from its own."""
    ranges = [unit_of(1, stages=2, span=span) for span in ((0, 1), (1, 2))]
    lock = lock_of("ranges", unit_of(0, stages=2, span=(0, 3)), *ranges)
    chain = fresh(lock)
    assert settle_by(chain, lock, Work(65), Work(66)).code is Code.DONE
    strayed = [Work(number, flow="stray") for number in (65, 66)]
    assert settle_by(chain, lock, *strayed, unit=2).code is Code.CHAIN_BROKEN
    again = lock_of("again", *lock.units)
    open_job(chain, again)
    assert settle_by(chain, again, Work(65), Work(66)).code is Code.DONE
    assert settle_by(chain, again, Work(65), Work(66), unit=2).code is Code.DONE


def test_stages_of_other_units_in_between_do_not_hide_the_stage_before() -> None:
    """The third of three stages: the first unit of the job is none that it reads."""
    lock = lock_of("three", *(unit_of(stage, stages=3) for stage in range(3)))
    chain = fresh(lock)
    for unit in (0, 1):
        assert settle_by(chain, lock, Work(65), Work(66), unit=unit).code is Code.DONE
    strayed = [Work(number, flow="stray") for number in (65, 66)]
    assert settle_by(chain, lock, *strayed, unit=2).code is Code.CHAIN_BROKEN


def test_roots_of_a_unit_are_kept_only_while_a_unit_is_to_read_them() -> None:
    """Of the next stage, over its batches, unsettled; the stage after that reads others."""
    lock = lock_of(
        "kept",
        unit_of(0, stages=3, span=(0, 1)),
        unit_of(0, stages=3, span=(1, 2)),
        unit_of(1, stages=3, span=(1, 2)),
        unit_of(2, stages=3, span=(0, 3)),
    )
    chain = fresh(lock)
    for unit in range(4):
        assert settle_by(chain, lock, Work(65), Work(66), unit=unit).code is Code.DONE
        kept = {key[33:] for key in chain.ledger._state if key[:33] == b"u" + lock.job}
        assert len(kept) == (0, 1, 2, 0)[unit]


@pytest.mark.parametrize(
    ("works", "code", "paid"),
    [
        ([Work(65), Work(66), Work(67)], Code.DONE, {65, 66, 67}),
        ([Work(65), Work(66)], Code.UNDECIDED, set()),
        ([Work(65), Work(66), Work(67, {0: "x"})], Code.UNDECIDED, set()),
        (
            [Work(65, {0: "x"}), Work(66, {0: "y"}), Work(67), Work(68), Work(69)],
            Code.DONE,
            {67, 68, 69},
        ),
    ],
)
def test_three_of_five(works: list[Work], code: Code, paid: set[int]) -> None:
    lock = lock_of("five", unit_of(workers=SIX[:5]))
    assert lock.units[0].needed == 3
    chain = fresh(lock)
    result = settle_by(chain, lock, *works)
    assert result.code is code
    accounts = {entry.account for entry in result.paid}
    assert {n for n in SIX if signer_of(n).public_key in accounts} == paid


def test_open_end_pays_what_was_done_and_returns_the_rest() -> None:
    lock = msgspec.structs.replace(
        lock_of("open", changed(unit_of(), kind=WorkKind.GENERATE)), is_open_ended=True
    )
    chain = fresh(lock)
    result = settle_by(chain, lock, Work(65, only=(0,)), Work(66, only=(0, 1)))
    assert (result.code, result.detail) == (Code.DONE, 1)
    job = chain.ledger.view.job(lock.job)
    assert job is not None
    assert job.verdicts[0] is not None
    # Batch 1 has one opinion only: neither right nor wrong, and unpaid.
    assert [(o.rows, o.wrong, o.paid) for o in job.verdicts[0].opinions] == [
        (4, 0, 3_800),
        (8, 0, 3_800),
    ]
    assert result.returned == 30_000 - 8_000


def test_open_end_takes_fewer_rows_than_locked_and_never_more() -> None:
    lock = msgspec.structs.replace(lock_of("rows"), is_open_ended=True)
    for rows, code in ((2, Code.DONE), (5, Code.BAD_RECEIPT)):
        chain = fresh(lock)
        half = msgspec.structs.replace(lock, batch_rows=(rows, 4, 2))
        receipts = [Work(n, only=(0,)).receipt(chain, half) for n in (65, 66)]
        for number, receipt in zip((65, 66), receipts, strict=True):
            chain.send(number, commit_of(lock, receipt))
        result = chain.send(REQUESTER, settle_of(lock, 0, receipts))
        assert result.code is code
        if code is Code.DONE:
            assert sum(entry.amount for entry in result.paid) == 2 * rows * 1_000


def test_closed_end_takes_no_fewer_rows_and_no_fewer_batches() -> None:
    chain = fresh(lock := lock_of("closed"))
    receipts = [Work(n, only=(0, 1)).receipt(chain, lock) for n in (65, 66)]
    assert not is_decided(receipts, lock.units[0], is_open_ended=False)
    assert is_decided(receipts, lock.units[0], is_open_ended=True)
    assert not is_decided([], lock.units[0], is_open_ended=True)


def test_open_end_without_any_work_is_refunded() -> None:
    lock = msgspec.structs.replace(lock_of("none"), is_open_ended=True)
    chain = fresh(lock)
    chain.add(step_ms=700_000)
    assert chain.send(70, Refund(lock.job)).returned == 30_000


@pytest.mark.parametrize(
    ("rates", "rows", "due"),
    [
        (None, 10, 10_000),
        (Rates(row=10, cpu_ms=0, mib=0), 10, 100),
        (Rates(row=0, cpu_ms=5, mib=0), 10, 35),
        (Rates(row=0, cpu_ms=0, mib=1_048_576), 10, 300),
        (Rates(row=0, cpu_ms=0, mib=1), 10, 0),
        (Rates(row=1, cpu_ms=10**9, mib=0), 10, 10_000),
        (Rates(row=10, cpu_ms=5, mib=1_048_576), 0, 0),
    ],
)
def test_charge_is_metered_under_the_price_a_row(rates: Rates | None, rows: int, due: int) -> None:
    lock = lock_of("metered", changed(unit_of(), rates=rates))
    receipt = Work(65).receipt(fresh(lock), lock)
    assert receipt.measured == Measured(cpu_ms=7, rows=10, bytes_in=100, bytes_out=200)
    assert charge(receipt, lock.units[0], rows) == due


def test_metered_settlement_returns_what_was_not_used() -> None:
    lock = lock_of("metered", changed(unit_of(), rates=Rates(row=100, cpu_ms=10, mib=0)))
    result = settle_by(fresh(lock), lock, Work(65), Work(66))
    each = 100 * 10 + 10 * 7
    assert sum(entry.amount for entry in result.paid) == 2 * each
    assert result.returned == 30_000 - 2 * each
