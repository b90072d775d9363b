"""Beacons: whose block is drawn from, and that nothing of them stays."""

from prsm.consensus.ledger.audit_records import AWAITED_KEY, beacon_key
from prsm.consensus.ledger.beacons import (
    HEIGHTS_WAITED_MAX,
    forget,
    hash_after,
    note_block,
    want,
)
from prsm.consensus.ledger.state import State

WORKER, OTHER, THIRD = b"w" * 32, b"o" * 32, b"t" * 32


def name(height: int) -> bytes:
    return bytes([height]) * 32


def blocks(state: State, first: int, *proposers: bytes) -> None:
    for height, proposer in enumerate(proposers, start=first):
        note_block(state, height=height, name=name(height), proposer=proposer)


def test_beacon_is_the_first_later_block_of_somebody_else() -> None:
    state = State({})
    want(state, 5)
    blocks(state, 5, OTHER)
    assert hash_after(state, 5, unlike=WORKER) is None, "its own block draws nothing"
    blocks(state, 6, WORKER, WORKER)
    assert hash_after(state, 5, unlike=WORKER) is None
    assert hash_after(state, 5, unlike=THIRD) == name(6)
    blocks(state, 8, THIRD, OTHER)
    assert hash_after(state, 5, unlike=WORKER) == name(8)
    assert hash_after(state, 5, unlike=OTHER) == name(6)
    assert state.get(AWAITED_KEY) is None


def test_one_proposer_alone_draws_in_the_end() -> None:
    state = State({})
    want(state, 1)
    blocks(state, 2, *[WORKER] * (HEIGHTS_WAITED_MAX - 2))
    assert hash_after(state, 1, unlike=WORKER) is None
    blocks(state, HEIGHTS_WAITED_MAX, WORKER, WORKER)
    assert hash_after(state, 1, unlike=WORKER) == name(2)
    assert state.get(AWAITED_KEY) is None


def test_beacon_goes_with_the_last_who_wanted_it() -> None:
    state = State({})
    want(state, 1)
    want(state, 1)
    blocks(state, 2, OTHER)
    forget(state, 1)
    assert hash_after(state, 1, unlike=WORKER) == name(2)
    forget(state, 1)
    assert state.get(beacon_key(1)) is None
    assert hash_after(state, 1, unlike=WORKER) is None
    blocks(state, 3, THIRD)
    assert state.get(AWAITED_KEY) is None


def test_heights_are_awaited_each_for_itself() -> None:
    state = State({})
    want(state, 1)
    blocks(state, 2, OTHER)
    want(state, 2)
    blocks(state, 3, THIRD)
    assert hash_after(state, 1, unlike=OTHER) == name(3)
    assert hash_after(state, 2, unlike=WORKER) == name(3)
    assert hash_after(state, 2, unlike=THIRD) is None


def test_nobody_waits_and_nothing_is_written() -> None:
    state = State({})
    blocks(state, 1, OTHER, THIRD)
    assert state.changes() == []
