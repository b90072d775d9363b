"""How often a worker is audited for how it has done."""

import pytest

from prsm.consensus.ledger.audit_records import Standing
from prsm.consensus.ledger.reputation import (
    EARNED_MAX,
    audit_bps,
    note_fault,
    note_settled,
    standing,
)
from prsm.consensus.ledger.state import State
from prsm.protocol.transactions.results import Code
from prsm.testnet.chain import Chain, signer_of, small_genesis
from prsm.testnet.jobs import Work, lock_of, open_job, settle_by, unit_of
from tests.tools.audited import GROSS, WORKER, Scene


@pytest.mark.parametrize(
    ("settled", "faults", "clean", "bps"),
    [
        (0, 0, 0, 2_500),
        (19, 0, 19, 2_500),
        (20, 0, 20, 500),
        (900, 0, 0, 2_500),
        (900, 1, 0, 10_000),
        (900, 1, 99, 10_000),
        (900, 1, 100, 500),
        (3, 1, 3, 10_000),
    ],
)
def test_new_and_faulty_workers_are_audited_more(
    settled: int, faults: int, clean: int, bps: int
) -> None:
    found = Standing(settled, faults, clean, clean * 7)
    assert audit_bps(found, 500, reserve=7) == bps
    assert audit_bps(found, 0, reserve=7) == 0


@pytest.mark.parametrize(
    ("faults", "units", "rate"), [(0, 20, 2_500), (1, 100, 10_000)], ids=["new", "at fault"]
)
def test_small_units_do_not_make_dear_ones_unaudited(faults: int, units: int, rate: int) -> None:
    """Or a worker would order units of next to nothing of itself, and then lie about a dear one."""
    found = Standing(900, faults, 900, 900 * 10)
    for reserve, bps in ((1, 500), (9_000 // units, 500), (9_000 // units + 1, rate)):
        assert audit_bps(found, 500, reserve=reserve) == bps


def test_base_above_the_rate_of_newcomers_stays() -> None:
    assert audit_bps(Standing(0, 0, 0, 0), 9_000, reserve=1) == 9_000


def test_standing_begins_with_nothing_and_a_fault_ends_a_clean_row() -> None:
    state, worker = State({}), bytes(32)
    assert standing(state, worker) == Standing(settled=0, faults=0, clean=0, earned=0)
    for _ in range(3):
        note_settled(state, worker, alone=5)
    note_settled(state, worker, alone=None)
    assert standing(state, worker) == Standing(settled=4, faults=0, clean=3, earned=15)
    note_fault(state, worker)
    assert standing(state, worker) == Standing(settled=4, faults=1, clean=0, earned=0)


def test_what_goes_round_for_ever_stays_a_number() -> None:
    state, worker = State({}), bytes(32)
    for _ in range(12):
        note_settled(state, worker, alone=10**18)
    assert standing(state, worker) == Standing(12, 0, 12, EARNED_MAX)


def test_work_that_is_compared_makes_no_worker_old() -> None:
    """Who orders it names both workers: himself twice, for a fee."""
    chain = Chain(small_genesis())
    lock = lock_of("own", unit_of(workers=(65, 66)))
    open_job(chain, lock)
    assert settle_by(chain, lock, Work(65), Work(66)).code is Code.DONE
    found = chain.ledger.view.standing(signer_of(65).public_key)
    assert found == Standing(settled=1, faults=0, clean=0, earned=0)


def test_work_alone_counts_with_what_it_cost() -> None:
    scene = Scene().begin()
    receipt = scene.bound()
    scene.audit()
    assert scene.settle(receipt).code is Code.DONE
    found = scene.chain.ledger.view.standing(signer_of(WORKER).public_key)
    assert found == Standing(settled=1, faults=0, clean=1, earned=GROSS)
