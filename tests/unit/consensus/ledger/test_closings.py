"""Closed jobs leave the state in their order, so many a block, and nothing of them stays."""

import pytest

from prsm.consensus.ledger import closings
from prsm.consensus.ledger.closings import FORGOTTEN_MAX
from prsm.protocol.genesis import Parameters
from prsm.protocol.transactions.payloads import Lock, Refund
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

KEEP_MS = 50_000


@pytest.fixture
def chain() -> Chain:
    return Chain(small_genesis(parameters=Parameters(tree_bits=8, job_keep_ms=KEEP_MS)))


def opened(chain: Chain, name: str, *, life_ms: int = 20_000) -> Lock:
    lock = lock_of(name, deadline_ms=chain.ledger.tip.time_ms + 1_000 + life_ms)
    open_job(chain, lock)
    return lock


def queued(chain: Chain) -> set[bytes]:
    return {key for key in chain.ledger._state if key[:1] == closings.CLOSING}


def test_closed_job_and_its_faults_are_forgotten_after_their_time(chain: Chain) -> None:
    lock = opened(chain, "one")
    settle_by(chain, lock, Work(65), Work(66, {0: "lie"}), Work(67))
    liar = signer_of(66).public_key
    assert len(chain.ledger.view.faults(liar)) == 1
    chain.add(step_ms=lock.deadline_ms + KEEP_MS - chain.ledger.tip.time_ms)
    assert chain.ledger.view.job(lock.job) is not None
    chain.add(step_ms=1)
    assert chain.ledger.view.job(lock.job) is None
    assert chain.ledger.view.faults(liar) == []
    assert chain.ledger.view.standing(liar).faults == 1
    assert queued(chain) == set()


def test_open_jobs_and_those_behind_a_young_one_wait(chain: Chain) -> None:
    young, old, left = (
        opened(chain, name, life_ms=life)
        for name, life in (("young", 500_000), ("old", 30_000), ("left open", 30_000))
    )
    settle_by(chain, young, Work(65), Work(66))
    settle_by(chain, old, Work(65), Work(66))
    chain.add(step_ms=200_000)
    assert len(queued(chain)) == 2
    assert chain.ledger.view.job(left.job) is not None
    chain.add(step_ms=500_000)
    assert queued(chain) == set()
    assert chain.ledger.view.job(left.job) is not None
    assert chain.send(70, Refund(left.job)).code is Code.DONE


def test_block_forgets_so_many(chain: Chain) -> None:
    locks = [opened(chain, f"job {i}") for i in range(FORGOTTEN_MAX + 3)]
    chain.add(step_ms=40_000)
    for lock in locks:
        chain.send(70, Refund(lock.job), step_ms=1)
    chain.add(step_ms=KEEP_MS + 60_000)
    assert len(queued(chain)) == 3
    chain.add()
    assert queued(chain) == set()


def test_id_may_be_locked_again_and_old_receipts_do_not_settle_it(chain: Chain) -> None:
    lock = opened(chain, "again")
    old = [Work(number).receipt(chain, lock) for number in (65, 66)]
    settle_by(chain, lock, Work(65), Work(66))
    chain.add(step_ms=200_000)
    again = opened(chain, "again")
    assert again.job == lock.job
    for number, receipt in zip((65, 66), old, strict=True):
        assert chain.send(number, commit_of(again, receipt)).code is Code.DONE
    assert chain.send(REQUESTER, settle_of(again, 0, old)).code is Code.FOREIGN_RECEIPT


def test_child_and_parent_are_forgotten_each_in_its_turn(chain: Chain) -> None:
    parent = lock_of("parent", budget=100_000, deadline_ms=chain.ledger.tip.time_ms + 30_000)
    open_job(chain, parent)
    child = lock_of("child", unit_of(), parent=parent.job, deadline_ms=parent.deadline_ms)
    open_job(chain, child)
    settle_by(chain, child, Work(65), Work(66))
    settle_by(chain, parent, Work(65), Work(66))
    chain.add(step_ms=200_000)
    assert chain.ledger.view.job(child.job) is None
    assert chain.ledger.view.job(parent.job) is None
