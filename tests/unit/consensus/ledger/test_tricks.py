"""Requesters that cheat: the honest worker is paid, or nobody loses. Each trick, by its rule."""

from collections.abc import Sequence

import msgspec
import pytest

from prsm.consensus.ledger.records import JobStatus
from prsm.protocol.receipts import Feed, WorkReceipt, sign_feed, sign_receipt
from prsm.protocol.transactions.payloads import Lock, Refund
from prsm.protocol.transactions.results import Code, TxReceipt
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
from tests.tools.audited import bound, fed

NET = 9_500
GRACE_MS = 30_000


def worker(number: int) -> bytes:
    return signer_of(number).public_key


def fresh(lock: Lock | None = None) -> tuple[Chain, Lock]:
    chain, terms = Chain(small_genesis()), lock or lock_of()
    open_job(chain, terms)
    return chain, terms


def settled(
    chain: Chain, lock: Lock, receipts: Sequence[WorkReceipt], feeds: Sequence[Feed] = ()
) -> TxReceipt:
    return chain.send(70, settle_of(lock, 0, receipts, feeds))


def paid_to(result: TxReceipt) -> dict[bytes, int]:
    amounts = {entry.account: entry.amount for entry in result.paid}
    return {worker(n): amounts[worker(n)] for n in (65, 66, 67) if worker(n) in amounts}


def test_refusing_to_settle_changes_nothing() -> None:
    """Any account sends what the workers show one another."""
    chain, lock = fresh()
    receipts = bound(chain, lock, Work(65), Work(66))
    result = settled(chain, lock, receipts)
    assert result.code is Code.DONE
    assert paid_to(result) == {worker(65): NET, worker(66): NET}


def test_refunding_at_the_deadline_waits_for_who_was_bound_before_it() -> None:
    chain, lock = fresh()
    chain.add(step_ms=595_000)
    receipts = bound(chain, lock, Work(65), Work(66))
    chain.add(step_ms=10_000)
    assert chain.send(REQUESTER, Refund(lock.job)).code is Code.TOO_EARLY
    assert settled(chain, lock, receipts).code is Code.DONE


def test_refund_is_not_held_up_by_who_binds_itself_after_the_deadline() -> None:
    chain, lock = fresh()
    chain.add(step_ms=601_000)
    bound(chain, lock, Work(65))
    assert chain.send(REQUESTER, Refund(lock.job)).code is Code.DONE


def test_leaving_out_an_honest_worker_fails_until_it_had_its_time() -> None:
    chain, lock = fresh()
    receipts = bound(chain, lock, Work(65), Work(66), Work(67))
    assert settled(chain, lock, receipts[:2]).code is Code.LEFT_OUT
    result = settled(chain, lock, receipts)
    assert paid_to(result) == dict.fromkeys((worker(65), worker(66), worker(67)), NET)


def test_different_inputs_to_replicas_pay_who_shows_its_feed() -> None:
    """The majority got one thing, the third another: nobody is at fault, all are paid."""
    chain, lock = fresh()
    odd = Work(67, flow="other")
    receipts = bound(chain, lock, Work(65), Work(66), odd)
    feeds = [fed(chain, lock, odd, batch) for batch in range(3)]
    result = settled(chain, lock, receipts, feeds)
    assert result.code is Code.DONE
    assert paid_to(result) == dict.fromkeys((worker(65), worker(66), worker(67)), NET)
    assert chain.ledger.view.faults(worker(67)) == []


def test_different_inputs_without_a_feed_are_no_fault_and_no_pay() -> None:
    chain, lock = fresh()
    result = settle_by(chain, lock, Work(65), Work(66), Work(67, flow="other"))
    assert paid_to(result) == {worker(65): NET, worker(66): NET}
    assert chain.ledger.view.faults(worker(67)) == []


def test_torn_unit_pays_everybody_who_was_fed_so() -> None:
    """Three workers, three inputs: nothing is right, and the requester signed all of it."""
    chain, lock = fresh()
    works = [Work(65), Work(66, flow="b"), Work(67, flow="c")]
    receipts = bound(chain, lock, *works)
    assert settled(chain, lock, receipts).code is Code.UNDECIDED
    feeds = [fed(chain, lock, work, 0) for work in works]
    result = settled(chain, lock, receipts, feeds)
    assert result.code is Code.DONE
    assert (result.returned, result.detail) == (0, 0)
    assert paid_to(result) == dict.fromkeys((worker(65), worker(66), worker(67)), NET)
    job = chain.ledger.view.job(lock.job)
    assert job is not None
    assert job.status is JobStatus.SETTLED


def test_torn_unit_does_not_pay_who_made_its_inputs_up() -> None:
    """Two feeds differ; the third worker states inputs nobody signed."""
    chain, lock = fresh()
    works = [Work(65), Work(66, flow="b"), Work(67, flow="invented")]
    receipts = bound(chain, lock, *works)
    feeds = [fed(chain, lock, work, 0) for work in works[:2]]
    result = settled(chain, lock, receipts, feeds)
    assert paid_to(result) == {worker(65): NET, worker(66): NET}


def test_true_feed_excuses_no_wrong_output() -> None:
    """The requester fed all the same; who answers otherwise is at fault, feed or not."""
    chain, lock = fresh()
    lie = Work(67, {1: "lie"})
    receipts = bound(chain, lock, Work(65), Work(66), lie)
    result = settled(chain, lock, receipts, [fed(chain, lock, lie, 1)])
    assert worker(67) not in paid_to(result)
    assert len(chain.ledger.view.faults(worker(67))) == 1


BAD_FEEDS = [
    ("of another account", {}, 71),
    ("of another job", {"job": bytes(32)}, REQUESTER),
    ("of another unit", {"unit": 1}, REQUESTER),
    ("of no batch", {"batch": 3}, REQUESTER),
]


@pytest.mark.parametrize(
    ("fields", "signer"), [row[1:] for row in BAD_FEEDS], ids=[row[0] for row in BAD_FEEDS]
)
def test_forged_feed_is_refused(fields: dict[str, object], signer: int) -> None:
    """A worker cannot make a disagreement its requester's."""
    chain, lock = fresh()
    receipts = bound(chain, lock, Work(65), Work(66))
    feed = msgspec.structs.replace(fed(chain, lock, Work(65), 0), **fields)
    forged = sign_feed(feed, signer_of(signer), chain_id=chain.genesis.chain_id)
    assert settled(chain, lock, receipts, [forged]).code is Code.BAD_FEED
    unsigned = msgspec.structs.replace(fed(chain, lock, Work(65), 0), signature=bytes(64))
    assert settled(chain, lock, receipts, [unsigned]).code is Code.BAD_FEED
    assert settled(chain, lock, receipts).code is Code.DONE


def test_stage_fed_something_else_than_was_written_is_paid_with_its_feeds() -> None:
    """A requester that breaks the chain between two honest stages pays both."""
    lock = lock_of("two", unit_of(0, stages=2), unit_of(1, stages=2))
    chain, _ = fresh(lock)
    assert settle_by(chain, lock, Work(65), Work(66)).code is Code.DONE
    strayed = [Work(number, flow="stray") for number in (65, 66)]
    receipts = bound(chain, lock, *strayed, unit=1)
    assert chain.send(70, settle_of(lock, 1, receipts)).code is Code.CHAIN_BROKEN
    feeds = [fed(chain, lock, strayed[0], batch, unit=1) for batch in range(3)]
    assert chain.send(70, settle_of(lock, 1, receipts, feeds[:2])).code is Code.CHAIN_BROKEN
    result = chain.send(70, settle_of(lock, 1, receipts, feeds))
    assert result.code is Code.DONE
    assert paid_to(result) == {worker(65): NET, worker(66): NET}


def test_old_receipts_do_not_settle_a_new_escrow_of_the_same_id() -> None:
    """A receipt names the height its work began at; an older one is of another escrow."""
    chain, lock = fresh()
    honest = Work(65).receipt(chain, lock)
    old = msgspec.structs.replace(honest, started_height=0)
    assert honest.started_height > old.started_height
    receipts = [sign_receipt(old, signer_of(65)), Work(66).receipt(chain, lock)]
    for number, receipt in zip((65, 66), receipts, strict=True):
        chain.send(number, commit_of(lock, receipt))
    assert settled(chain, lock, receipts).code is Code.FOREIGN_RECEIPT


def test_open_id_is_not_locked_again() -> None:
    chain, lock = fresh()
    assert chain.send(REQUESTER, lock).code is Code.JOB_EXISTS
    settle_by(chain, lock, Work(65), Work(66))
    assert chain.send(REQUESTER, lock).code is Code.JOB_EXISTS
