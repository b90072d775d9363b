"""Planted bugs of the money: each must be seen."""

import pytest

from prsm.consensus.ledger.invariants import assert_conserved, assert_sound
from prsm.consensus.ledger.records import (
    TOTALS_KEY,
    Balance,
    Bond,
    Totals,
    account_key,
    bond_key,
    job_key,
)
from prsm.consensus.ledger.state import State
from prsm.protocol.codec import Record, encode

A, B = account_key(b"A" * 32, 0), account_key(b"B" * 32, 0)
OTHER_ASSET = account_key(b"B" * 32, 1)


def totals(**changes: int) -> Totals:
    return Totals(**({"minted": 100, "locked": 0, "bonded": 40, "burnt": 0} | changes))


def bond(stake: int) -> Bond:
    return Bond(stake, stake, b"K" * 32, "peer", 0, (), tombstoned=False)


BASE: dict[bytes, bytes] = {
    A: encode(Balance(amount=60)),
    bond_key(b"O" * 32): encode(bond(40)),
    TOTALS_KEY: encode(totals()),
}


def moved(**records: Record) -> State:
    names = {
        "a": A,
        "b": B,
        "other": OTHER_ASSET,
        "bond": bond_key(b"O" * 32),
        "totals": TOTALS_KEY,
    }
    state = State(BASE)
    for name, record in records.items():
        state.write(names[name], record)
    return state


def check(state: State) -> None:
    assert_conserved(BASE, state, [key for key, _ in state.changes()])


def test_moves_that_conserve_pass() -> None:
    check(moved(a=Balance(amount=50), b=Balance(amount=10)))
    check(moved(other=Balance(amount=7)))
    check(moved(bond=bond(30), b=Balance(amount=10), totals=totals(bonded=30)))
    check(moved(a=Balance(amount=59), totals=totals(burnt=1)))
    empty = State(BASE)
    empty.delete(A)
    empty.write(B, Balance(amount=60))
    check(empty)
    assert_sound(BASE)


@pytest.mark.parametrize(
    ("state", "what"),
    [
        (moved(b=Balance(amount=1)), "out of nothing"),
        (moved(a=Balance(amount=59)), "out of nothing"),
        (moved(bond=bond(30), b=Balance(amount=10)), "bonds moved"),
        (moved(totals=totals(locked=1)), "escrow moved"),
        (moved(totals=totals(minted=101)), "emission"),
    ],
)
def test_moves_that_do_not_are_seen(state: State, what: str) -> None:
    with pytest.raises(AssertionError, match=what):
        check(state)


def test_whole_state_must_add_up() -> None:
    with pytest.raises(AssertionError, match="escrow or bonds"):
        assert_sound(BASE | {TOTALS_KEY: encode(totals(bonded=39))})
    with pytest.raises(AssertionError, match="supply"):
        assert_sound(BASE | {B: encode(Balance(amount=1))})


def test_deleted_entries_count_as_nothing() -> None:
    state = State(BASE)
    state.delete(bond_key(b"O" * 32))
    with pytest.raises(AssertionError, match="bonds moved"):
        check(state)
    assert_conserved(BASE, State(BASE), [job_key(b"J" * 32)])
