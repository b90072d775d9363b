"""Escrow: terms, children and their budgets, deadlines, refunds."""

import msgspec
import pytest

from prsm.consensus.ledger.context import Closed, Locked
from prsm.consensus.ledger.records import Job, JobStatus
from prsm.protocol.ids import Bytes32
from prsm.protocol.transactions.payloads import Halt, Lock, Refund, Share
from prsm.protocol.transactions.results import Code
from prsm.testnet.chain import START_MS, Chain, signer_of, small_genesis
from prsm.testnet.jobs import REQUESTER, Work, lock_of, open_job, settle_by, unit_of


@pytest.fixture
def chain() -> Chain:
    return Chain(small_genesis())


def key(number: int) -> Bytes32:
    return signer_of(number).public_key


def job_of(chain: Chain, lock: Lock) -> Job:
    job = chain.ledger.view.job(lock.job)
    assert job is not None
    return job


def test_lock_moves_the_highest_price_and_the_budget_out_of_the_balance(chain: Chain) -> None:
    lock = lock_of("job", unit_of(0, stages=2), unit_of(1, stages=2, workers=(65, 66)), budget=77)
    before = chain.ledger.view.account(key(REQUESTER))
    receipt = chain.send(REQUESTER, lock)
    amount = 10 * 1_000 * 3 + 10 * 1_000 * 2 + 77
    assert chain.ledger.view.account(key(REQUESTER)) == before - amount - receipt.fee
    assert chain.ledger.view.supply().locked == amount
    job = job_of(chain, lock)
    assert (job.locked, job.budget, job.depth, job.status) == (amount, 77, 1, JobStatus.OPEN)
    assert job.tenant == b"lab"
    assert chain.made[-1].outcome.events == (Locked(lock.job, amount),)


HALTED = bytes.fromhex("01551220") + bytes(32)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"asset": 1}, Code.UNKNOWN_ASSET),
        ({"units": (unit_of(workers=(65, 65)),)}, Code.BAD_UNITS),
        ({"units": (unit_of(1, stages=1),)}, Code.BAD_UNITS),
        ({"units": (unit_of(), unit_of(workers=(65, 66)))}, Code.BAD_UNITS),
        ({"units": (), "budget": 5}, Code.BAD_UNITS),
        ({"batch_rows": (), "budget": 5}, Code.BAD_UNITS),
        ({"units": (), "batch_rows": ()}, Code.BAD_UNITS),
        ({"units": (unit_of(model=HALTED),)}, Code.MODEL_HALTED),
        ({"shares": (Share(account=bytes(32), bps=9_501),)}, Code.BAD_SHARES),
        ({"shares": (Share(account=bytes(32), bps=1),) * 2}, Code.BAD_SHARES),
        ({"deadline_ms": START_MS}, Code.BAD_DEADLINE),
        ({"deadline_ms": START_MS + 10 * 86_400_000}, Code.BAD_DEADLINE),
        ({"budget": 10**15}, Code.INSUFFICIENT_FUNDS),
        ({"parent": bytes(32)}, Code.PARENT_CLOSED),
    ],
)
def test_lock_refuses_bad_terms(chain: Chain, changes: dict[str, object], code: Code) -> None:
    for operator in (32, 33, 34):
        chain.send(operator, Halt(cid=HALTED, lift=False, reason=""))
    before = chain.ledger.view.account(key(REQUESTER))
    receipt = chain.send(REQUESTER, msgspec.structs.replace(lock_of(), **changes))
    assert receipt.code is code
    assert chain.ledger.view.account(key(REQUESTER)) == before - receipt.fee
    assert chain.ledger.view.supply().locked == 0


def test_lock_of_the_whole_takes_all_shares(chain: Chain) -> None:
    shares = (Share(account=key(70), bps=9_500),)
    lock = lock_of(shares=shares)
    open_job(chain, lock)
    result = settle_by(chain, lock, Work(65), Work(66))
    assert key(65) not in {entry.account for entry in result.paid}


def test_lock_refuses_a_second_job_of_one_id(chain: Chain) -> None:
    open_job(chain, lock_of())
    assert chain.send(REQUESTER, lock_of()).code is Code.JOB_EXISTS


def test_deadline_bounds_are_exact(chain: Chain) -> None:
    """The block after the genesis is 1,000 ms later; a refund needs time after the deadline."""
    now = START_MS + 1_000
    last = lock_of("last", deadline_ms=now + 86_400_000)
    assert chain.send(REQUESTER, last).code is Code.DONE
    soon = lock_of("soon", deadline_ms=chain.ledger.tip.time_ms + 2_000)
    assert chain.send(REQUESTER, soon).code is Code.DONE
    assert chain.send(70, Refund(job=soon.job)).code is Code.TOO_EARLY  # at the deadline
    result = chain.send(70, Refund(job=soon.job), step_ms=1)
    assert (result.code, result.returned) == (Code.DONE, 30_000)
    assert job_of(chain, soon).status is JobStatus.REFUNDED
    assert chain.made[-1].outcome.events == (Closed(soon.job, is_refund=True),)
    assert chain.send(70, Refund(job=soon.job)).code is Code.JOB_CLOSED
    assert chain.send(70, Refund(job=bytes(32))).code is Code.UNKNOWN_JOB


def test_refund_returns_to_the_requester_what_settlement_left(chain: Chain) -> None:
    lock = lock_of("two", unit_of(0, stages=2), unit_of(1, stages=2), budget=5)
    open_job(chain, lock)
    settle_by(chain, lock, Work(65), Work(66))
    before = chain.ledger.view.account(key(REQUESTER))
    result = chain.send(70, Refund(job=lock.job), step_ms=700_000)
    assert result.returned == 30_000 + 5
    assert chain.ledger.view.account(key(REQUESTER)) == before + 30_005
    assert chain.ledger.view.supply().locked == 0


def test_children_draw_on_the_budget_and_give_back_to_it(chain: Chain) -> None:
    parent = lock_of("parent", budget=100_000)
    open_job(chain, parent)
    locked = chain.ledger.view.supply().locked
    child = lock_of("child", unit_of(0, price=2_000), parent=parent.job)
    open_job(chain, child)
    assert chain.ledger.view.supply().locked == locked
    assert (job_of(chain, parent).budget, job_of(chain, parent).children) == (40_000, 1)
    result = settle_by(chain, child, Work(65), Work(66))
    assert result.returned == 20_000
    assert chain.ledger.view.supply().locked == locked - 40_000
    assert (job_of(chain, parent).budget, job_of(chain, parent).children) == (60_000, 0)
    assert job_of(chain, child).status is JobStatus.SETTLED
    assert job_of(chain, parent).is_open


def test_parent_closes_with_its_last_child(chain: Chain) -> None:
    parent = lock_of("parent", budget=100_000)
    child = lock_of("child", parent=parent.job, budget=30_000)
    grandchild = lock_of("grandchild", parent=child.job)
    for lock in (parent, child, grandchild):
        open_job(chain, lock)
    for lock in (parent, child):
        assert settle_by(chain, lock, Work(65), Work(66)).code is Code.DONE
        assert job_of(chain, lock).is_open
    before = chain.ledger.view.account(key(REQUESTER))
    result = chain.send(70, Refund(job=grandchild.job), step_ms=700_000)
    assert result.code is Code.DONE
    assert [job_of(chain, lock).status for lock in (grandchild, child, parent)] == [
        JobStatus.REFUNDED,
        JobStatus.SETTLED,
        JobStatus.SETTLED,
    ]
    assert [event.job for event in chain.made[-1].outcome.events if isinstance(event, Closed)] == [
        grandchild.job,
        child.job,
        parent.job,
    ]
    # The child's 60,000 went from the budget, of which its two workers got 20,000.
    assert chain.ledger.view.account(key(REQUESTER)) == before + 100_000 - 20_000
    assert chain.ledger.view.supply().locked == 0


def test_budget_alone_is_for_children_and_its_requester_has_it_back(chain: Chain) -> None:
    """A plan: it outlives its children, and only its requester ends it before its time."""
    bare = {"units": (), "batch_rows": (), "budget": 100_000}
    plan = msgspec.structs.replace(lock_of("plan"), **bare)
    late = msgspec.structs.replace(lock_of("late"), **bare)
    child = lock_of("child", parent=plan.job)
    for lock in (plan, late, child):
        open_job(chain, lock)
    assert chain.send(REQUESTER, Refund(job=plan.job)).code is Code.CHILD_OPEN
    assert settle_by(chain, child, Work(65), Work(66)).code is Code.DONE
    assert job_of(chain, plan).is_open
    assert job_of(chain, plan).budget == 80_000
    assert chain.send(70, Refund(job=plan.job)).code is Code.TOO_EARLY
    before = chain.ledger.view.account(key(REQUESTER))
    receipt = chain.send(REQUESTER, Refund(job=plan.job))
    assert (receipt.code, receipt.returned) == (Code.DONE, 80_000)
    assert chain.ledger.view.account(key(REQUESTER)) == before + 80_000 - receipt.fee
    assert chain.send(REQUESTER, Refund(job=plan.job)).code is Code.JOB_CLOSED
    assert chain.send(70, Refund(job=late.job), step_ms=700_000).returned == 100_000
    assert chain.ledger.view.supply().locked == 0


def test_refund_waits_for_open_children(chain: Chain) -> None:
    parent = lock_of("parent", budget=100_000)
    child = lock_of("child", parent=parent.job)
    open_job(chain, parent)
    open_job(chain, child)
    chain.add(step_ms=700_000)
    assert chain.send(70, Refund(job=parent.job)).code is Code.CHILD_OPEN
    assert chain.send(70, Refund(job=child.job)).code is Code.DONE
    assert chain.send(70, Refund(job=parent.job)).returned == 130_000


def test_children_are_of_one_requester_in_time_in_budget_and_not_too_deep(chain: Chain) -> None:
    parent = lock_of("0", budget=10**6)
    open_job(chain, parent)
    assert chain.send(70, lock_of("x", parent=parent.job)).code is Code.NOT_REQUESTER
    late = lock_of("x", parent=parent.job, deadline_ms=parent.deadline_ms + 1)
    assert chain.send(REQUESTER, late).code is Code.BAD_DEADLINE
    dear = lock_of("x", parent=parent.job, budget=10**6)
    assert chain.send(REQUESTER, dear).code is Code.BUDGET_EXCEEDED
    for depth in range(1, 5):
        child = lock_of(str(depth), parent=parent.job, budget=10**6 - depth * 30_000)
        open_job(chain, child)
        assert job_of(chain, child).depth == depth + 1
        parent = child
    assert chain.send(REQUESTER, lock_of("5", parent=parent.job)).code is Code.TOO_DEEP
    closed = lock_of("closed")
    open_job(chain, closed)
    settle_by(chain, closed, Work(65), Work(66))
    assert chain.send(REQUESTER, lock_of("x", parent=closed.job)).code is Code.PARENT_CLOSED


def test_job_without_price_is_settled_like_any_other(chain: Chain) -> None:
    lock = lock_of("free", unit_of(price=0))
    open_job(chain, lock)
    result = settle_by(chain, lock, Work(65), Work(66, {0: "x"}), Work(67))
    assert (result.code, result.paid, result.returned) == (Code.DONE, (), 0)
    assert chain.ledger.view.faults(key(66))
