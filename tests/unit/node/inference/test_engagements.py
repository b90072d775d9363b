"""What a worker took on and is not bound for counts against its pledge, once each."""

from types import SimpleNamespace

import pytest

from prsm.consensus.ledger.records import Job
from prsm.node.inference.engagements import Engagements, Key
from prsm.node.inference.interface import NoBond
from prsm.node.work.account import Account
from prsm.protocol.transactions.audits import Redeem
from prsm.protocol.transactions.payloads import Refund
from prsm.protocol.transactions.results import Code
from prsm.testnet.chain import signer_of
from prsm.testnet.jobs import REQUESTER, Work, commit_of, lock_of, open_job, unit_of
from tests.tools.audited import BOND, PLEDGE, PRICE, WORKER, Scene

ALONE = unit_of(workers=(WORKER,), price=PRICE)


class Worker:
    """A worker of a scene whose pledge covers so many units, and what it took on."""

    def __init__(self, covers: int) -> None:
        self.scene = Scene().begin()
        result = self.scene.chain.send(WORKER, Redeem(PLEDGE - covers * BOND))
        assert result.code is Code.DONE
        driver: object = SimpleNamespace(ledger=self.scene.chain.ledger)
        wallet: object = SimpleNamespace(address=signer_of(WORKER).public_key)
        account = Account(driver, wallet, chain_id=b"")  # type: ignore[arg-type]  # what it reads
        self.chain = account
        self.taken: set[Key] = set()
        self.engagements = Engagements(account)
        self.engagements.add(lambda: self.taken)

    def lock(self, name: str) -> Job:
        lock = lock_of(name, ALONE)
        open_job(self.scene.chain, lock)
        return self.job(lock.job)

    def job(self, job: bytes) -> Job:
        found = self.chain.job(job)
        assert found is not None
        return found


def test_no_more_is_taken_on_than_the_pledge_covers() -> None:
    worker = Worker(2)
    first, second, third = (worker.lock(name) for name in ("one", "two", "three"))
    for job in (first, second):
        worker.engagements.check(job, 0)
        worker.taken.add((job.job, 0))
    worker.engagements.check(first, 0)  # what is open already counts once
    with pytest.raises(NoBond, match=f"{BOND} micro-FTNS more .* {2 * BOND} are for units") as no:
        worker.engagements.check(third, 0)
    assert no.value.hint
    worker.taken.discard((second.job, 0))  # given up, nothing done
    worker.engagements.check(third, 0)


def test_several_sources_name_a_unit_once() -> None:
    worker = Worker(2)
    first, second = worker.lock("one"), worker.lock("two")
    worker.taken.add((first.job, 0))
    worker.engagements.add(lambda: [(first.job, 0)])
    worker.engagements.check(second, 0)


def test_bound_unit_is_the_ledgers_and_a_closed_one_nobodys() -> None:
    worker = Worker(2)
    scene = worker.scene
    bound, closed, new = (worker.lock(name) for name in ("bound", "closed", "new"))
    worker.taken |= {(bound.job, 0), (closed.job, 0), (b"?" * 32, 0)}
    with pytest.raises(NoBond):
        worker.engagements.check(new, 0)
    lock = lock_of("bound", ALONE)
    receipt = Work(WORKER).receipt(scene.chain, lock)
    assert scene.chain.send(WORKER, commit_of(lock, receipt)).code is Code.DONE
    assert worker.chain.free_pledge() == BOND, "not counted twice"
    with pytest.raises(NoBond):
        worker.engagements.check(new, 0)
    scene.chain.add(step_ms=650_000)
    assert scene.chain.send(REQUESTER, Refund(closed.job)).code is Code.DONE
    later = lock_of("later", ALONE, deadline_ms=scene.chain.ledger.tip.time_ms + 600_000)
    open_job(scene.chain, later)
    worker.engagements.check(worker.job(later.job), 0)


@pytest.mark.parametrize("stage", ["open", "bound", "drawn and audited"])
def test_pledge_is_free_once_a_unit_lapsed_though_its_requester_is_gone(stage: str) -> None:
    """Nothing but the deadline ends it, and anybody may say so: here the worker."""
    worker = Worker(1)
    scene = worker.scene
    lost, address = scene.lock, signer_of(WORKER).public_key
    worker.taken.add((lost.job, 0))
    if stage != "open":
        scene.bound()
    if stage == "drawn and audited":
        assert scene.audit().code is Code.DONE
    waiting = worker.lock("waiting")
    with pytest.raises(NoBond):
        worker.engagements.check(waiting, 0)
    scene.chain.add(step_ms=601_000)
    new = lock_of("new", ALONE, deadline_ms=scene.chain.ledger.tip.time_ms + 600_000)
    open_job(scene.chain, new)
    with pytest.raises(NoBond):
        worker.engagements.check(worker.job(new.job), 0)  # it may still be bound and paid
    assert scene.chain.send(WORKER, Refund(lost.job)).code is Code.DONE
    assert worker.chain.free_pledge() == BOND
    assert worker.chain.committed(lost.job, 0, address) is None
    worker.engagements.check(worker.job(new.job), 0)


@pytest.mark.parametrize("unit", [unit_of(workers=(65, 66, 67)), unit_of(workers=(65,), price=0)])
def test_compared_and_free_work_needs_no_pledge(unit: object) -> None:
    worker = Worker(0)
    lock = lock_of("compared", unit)  # type: ignore[arg-type]  # a Unit
    open_job(worker.scene.chain, lock)
    worker.engagements.check(worker.job(lock.job), 0)
