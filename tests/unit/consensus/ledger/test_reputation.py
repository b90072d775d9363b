"""How often a worker is audited for how it has done."""

import pytest

from prsm.consensus.ledger.audit_records import Standing
from prsm.consensus.ledger.reputation import audit_bps, note_fault, note_settled, standing
from prsm.consensus.ledger.state import State


@pytest.mark.parametrize(
    ("settled", "faults", "clean", "bps"),
    [
        (0, 0, 0, 2_500),
        (19, 0, 19, 2_500),
        (20, 0, 20, 500),
        (900, 1, 0, 10_000),
        (900, 1, 99, 10_000),
        (900, 1, 100, 500),
        (3, 1, 3, 10_000),
    ],
)
def test_new_and_faulty_workers_are_audited_more(
    settled: int, faults: int, clean: int, bps: int
) -> None:
    assert audit_bps(Standing(settled, faults, clean), 500) == bps
    assert audit_bps(Standing(settled, faults, clean), 0) == 0


def test_base_above_the_rate_of_newcomers_stays() -> None:
    assert audit_bps(Standing(0, 0, 0), 9_000) == 9_000


def test_standing_begins_with_nothing_and_a_fault_ends_a_clean_row() -> None:
    state, worker = State({}), bytes(32)
    assert standing(state, worker) == Standing(settled=0, faults=0, clean=0)
    for _ in range(3):
        note_settled(state, worker)
    assert standing(state, worker) == Standing(settled=3, faults=0, clean=3)
    note_fault(state, worker)
    assert standing(state, worker) == Standing(settled=3, faults=1, clean=0)
