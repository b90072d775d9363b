"""What is right against a dumb twin, and what no opinion of one worker alone can change."""

from itertools import combinations
from typing import Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prsm.consensus.ledger.tally import charge, rule_on
from prsm.protocol.receipts import Feed, Stated, WorkReceipt
from prsm.protocol.transactions.payloads import Lock, Rates
from prsm.testnet.chain import Chain, signer_of, small_genesis
from prsm.testnet.jobs import Work, lock_of, unit_of

CHAIN: Final = Chain(small_genesis())
BATCHES: Final = 3
TRUTH: Final = "truth"
# What a worker says of each batch: None, a word for its inputs and one for its output.
Says = tuple[tuple[str, str] | None, ...]
WORDS: Final = st.sampled_from((TRUTH, "a", "b"))
SAYS: Final = st.lists(
    st.one_of(st.none(), st.tuples(WORDS, WORDS)), min_size=BATCHES, max_size=BATCHES
).map(tuple)
ROWS: Final = (4, 4, 2)


def lock_for(workers: int) -> Lock:
    return lock_of("tally", unit_of(workers=range(65, 65 + workers)))


def receipt(lock: Lock, worker: int, says: Says) -> WorkReceipt | None:
    batches = []
    for index, word in enumerate(says):
        if word is not None:
            before = Work(worker, flow=word[0]).batch(lock, 0, index)
            after = Work(worker, flow=word[1]).batch(lock, 0, index)
            batches.append(msgspec.structs.replace(before, output_root=after.output_root))
    made = Work(worker).receipt(CHAIN, lock)
    return msgspec.structs.replace(made, batches=tuple(batches)) if batches else None


def right_by_hand(receipts: list[WorkReceipt], needed: int) -> dict[int, Stated]:
    """Some `needed` receipts all state the same of a batch."""
    found: dict[int, Stated] = {}
    for group in combinations(receipts, needed):
        stated = [{batch.index: batch.stated for batch in one.batches} for one in group]
        for index in range(BATCHES):
            held = [one.get(index) for one in stated]
            if held[0] is not None and all(one == held[0] for one in held):
                found[index] = held[0]
    return found


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_ruling_is_that_of_the_dumb_twin(data: st.DataObject) -> None:
    count = data.draw(st.sampled_from((1, 2, 3, 5)))
    lock = lock_for(count)
    unit = lock.units[0]
    said = data.draw(st.lists(SAYS, min_size=count, max_size=count))
    made = [receipt(lock, 65 + i, says) for i, says in enumerate(said)]
    receipts = [one for one in made if one is not None]
    ruling = rule_on(receipts, (), unit)
    right = right_by_hand(receipts, unit.needed)
    assert ruling.right == right
    assert ruling.missing == tuple(i for i in range(BATCHES) if i not in right)
    for one, worth in zip(receipts, ruling.worths, strict=True):
        stated = {batch.index: batch.stated for batch in one.batches}
        wrong = [i for i in stated if i in right and right[i] != stated[i]]
        assert list(worth.wrong) == wrong
        assert set(worth.lies) == {i for i in wrong if right[i][:3] == stated[i][:3]}
        assert worth.rows == sum(ROWS[i] for i in stated if right.get(i) == stated[i])


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_liars_that_do_not_collude_are_never_paid_and_nobody_honest_is_wrong(
    data: st.DataObject,
) -> None:
    """Each liar has words of its own; feeds of the truth only exist. Needs two or three."""
    count = data.draw(st.sampled_from((2, 3, 5)))
    lock = lock_for(count)
    unit = lock.units[0]
    receipts, honest = [], set()
    for i in range(count):
        lies = data.draw(st.dictionaries(st.integers(0, 2), st.booleans(), max_size=3))
        words: Says = tuple(
            (TRUTH, TRUTH)
            if index not in lies
            else (f"in {i}" if lies[index] else TRUTH, f"out {i}")
            for index in range(BATCHES)
        )
        made = receipt(lock, 65 + i, words)
        assert made is not None
        receipts.append(made)
        if not lies:
            honest.add(i)
    truth = Work(0, flow=TRUTH)
    feeds = [
        Feed(lock.job, 0, i, batch.input_root, batch.side_root, bytes(64))
        for i in data.draw(st.sets(st.integers(0, 2)))
        for batch in [truth.batch(lock, 0, i)]
    ]
    ruling = rule_on(receipts, feeds, unit)
    assert not ruling.torn
    for index, stated in ruling.right.items():
        assert stated == truth.batch(lock, 0, index).stated, "a lie is right"
    for i, (one, worth) in enumerate(zip(receipts, ruling.worths, strict=True)):
        if i in honest:
            assert not worth.wrong
            continue
        wrong = {b.index for b in one.batches if b.stated != truth.batch(lock, 0, b.index).stated}
        paid_rows = 0 if worth.wrong else worth.rows
        assert paid_rows <= sum(ROWS[i] for i in range(BATCHES) if i not in wrong)


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 2**20),
    st.integers(0, 10_000),
    st.one_of(st.none(), st.builds(Rates, *[st.integers(0, 10**6)] * 3)),
)
def test_charge_is_never_above_what_was_locked(price: int, rows: int, rates: Rates | None) -> None:
    unit = msgspec.structs.replace(lock_for(3).units[0], price_per_row=price, rates=rates)
    made = Work(65).receipt(CHAIN, lock_for(3))
    assert 0 <= charge(made, unit, rows) <= price * rows


@pytest.mark.parametrize("count", [2, 3, 5])
def test_keys_of_the_workers_differ(count: int) -> None:
    """Or distinct opinions would be one."""
    workers = lock_for(count).units[0].workers
    assert set(workers) == {signer_of(65 + i).public_key for i in range(count)}
