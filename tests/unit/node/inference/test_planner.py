"""Plans: even load, and every reason against one with its value and limit."""

from collections import Counter
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prsm.node.inference.layout import reserve_of
from prsm.node.inference.planner import opinions_for, plan
from prsm.node.inference.refusals import (
    ClassMissing,
    DeadlineImpossible,
    DoesNotFit,
    LinkBound,
    NoCutForK,
    OpRefused,
    PlanRefused,
    PriceOverCap,
    RuntimeMismatch,
    TooFewPeers,
    TooManyBatches,
)
from prsm.node.inference.wishes import BY_VALUE, Plan, Refused, Wish, WorkerOffer, needed_of
from prsm.protocol.ids import MICRO_PER_FTNS, PeerId
from prsm.protocol.limits import MIB
from prsm.protocol.transactions.payloads import unit_batches_max
from tests.tools.work import MODEL, RUNTIME, make_manifest

MANIFEST = make_manifest()
BATCHES_MAX = unit_batches_max(3)


def offer(
    index: int, *, price: int = 5, free: int = 1, runtime: str = RUNTIME, held: bool = True
) -> WorkerOffer:
    models = frozenset({MODEL}) if held else frozenset[bytes]()
    peer = PeerId(f"peer{index}")
    return WorkerOffer(bytes([index]) * 32, peer, price, free, runtime, models)


def offers(count: int) -> list[WorkerOffer]:
    return [offer(index + 1) for index in range(count)]


def wish(**changes: object) -> Wish:
    asked = {"model": MODEL, "batch_rows": (4, 4, 2), "stages": 3, **changes}
    return Wish(**asked)  # type: ignore[arg-type]  # keyword by keyword in each test


def planned(found: Plan | Refused) -> Plan:
    assert isinstance(found, Plan)
    return found


def refused(found: Plan | Refused) -> tuple[PlanRefused, ...]:
    assert isinstance(found, Refused)
    return found.reasons


def test_three_workers_take_turns() -> None:
    found = planned(plan(MANIFEST, offers(3), wish()))
    a, b, c = (bytes([i]) * 32 for i in (1, 2, 3))
    assert [unit.workers for unit in found.units] == [(a, b, c), (c, a, b), (b, c, a)]
    assert [unit.stage for unit in found.units] == [shard.index for shard in found.shards]
    assert found.amount == 3 * 3 * 5 * 10
    assert found.peers == {a: "peer1", b: "peer2", c: "peer3"}


@given(st.integers(3, 9), st.integers(1, 3), st.integers(2, 3))
def test_load_is_even_and_workers_of_a_unit_are_distinct(
    count: int, stages: int, redundancy: int
) -> None:
    found = planned(plan(MANIFEST, offers(count), wish(stages=stages, redundancy=redundancy)))
    work = [worker for unit in found.units for worker in unit.workers[: unit.needed]]
    assert len(found.units) == stages
    assert all(len(set(unit.workers)) == redundancy for unit in found.units)
    named = [work.count(worker) for worker in found.peers]
    assert max(named) - min(named) <= 1


def test_holders_of_the_model_come_first_then_the_cheapest() -> None:
    found = planned(
        plan(
            MANIFEST,
            [offer(1, price=1, held=False), offer(2, price=9), offer(3, price=7), offer(4)],
            wish(stages=1),
        )
    )
    assert found.units[0].workers == tuple(bytes([i]) * 32 for i in (4, 3, 2))
    assert found.units[0].price_per_row == 9


def test_price_that_is_too_high_is_told_of_the_way_that_costs_least() -> None:
    least = planned(plan(MANIFEST, offers(3), wish(stages=None))).amount
    [reason] = refused(plan(MANIFEST, offers(3), wish(stages=None, price_cap=least - 1)))
    assert (reason.value, reason.limit) == (least, least - 1)
    assert planned(plan(MANIFEST, offers(3), wish(stages=None, price_cap=least))).amount == least


def with_facts(**facts: object) -> list[WorkerOffer]:
    return [replace(each, **facts) for each in offers(3)]  # type: ignore[arg-type]  # as above


@pytest.mark.parametrize(
    ("given_offers", "changes", "expected", "value", "limit"),
    [
        (offers(3), {"stages": 4}, NoCutForK, 4, (1, 2, 3)),
        (offers(2), {}, TooFewPeers, 2, 3),
        ([offer(1), offer(2), offer(3, free=0)], {}, TooFewPeers, 2, 3),
        ([offer(1), offer(2), offer(3, runtime="x")], {}, RuntimeMismatch, ("x",), RUNTIME),
        # Its worker process is away: that is no other version, and no slot of it is free.
        ([offer(1), offer(2), offer(3, free=0, runtime="")], {}, TooFewPeers, 2, 3),
        (offers(3), {"price_cap": 449}, PriceOverCap, 450, 449),
        (offers(3), {"time_left_ms": 9_999}, DeadlineImpossible, 9_999, 10_000),
        (
            offers(3),
            {"time_left_ms": 20_000, "estimate_ms": 10_001},
            DeadlineImpossible,
            20_000,
            20_001,
        ),
        (
            offers(3),
            {"batch_rows": (1,) * (BATCHES_MAX + 1)},
            TooManyBatches,
            BATCHES_MAX + 1,
            BATCHES_MAX,
        ),
        (
            with_facts(memory_bytes=MIB),
            {},
            DoesNotFit,
            64 * MIB + 3,
            (MIB, MIB, MIB),
        ),
        (
            with_facts(refused="model_refused: operator Loop"),
            {},
            OpRefused,
            "model_refused: operator Loop",
            0,
        ),
        (
            with_facts(bytes_per_s=10.0),
            {"stages": 1, "sizes": {"width": 100}, "time_left_ms": 20_000},
            LinkBound,
            300,
            10,
        ),
    ],
)
def test_reason_carries_value_and_limit(
    given_offers: list[WorkerOffer],
    changes: dict[str, object],
    expected: type[PlanRefused],
    value: object,
    limit: object,
) -> None:
    [reason] = refused(plan(MANIFEST, given_offers, wish(**changes)))
    assert type(reason) is expected
    assert (reason.value, reason.limit) == (value, limit)
    assert reason.hint


def test_stage_with_two_outputs_has_no_chain() -> None:
    shards = list(MANIFEST.shards)
    first = next(i for i, s in enumerate(shards) if (s.stages, s.index) == (2, 0))
    shards[first] = msgspec.structs.replace(shards[first], outputs=shards[first].outputs * 2)
    manifest = msgspec.structs.replace(MANIFEST, shards=tuple(shards))
    [reason] = refused(plan(manifest, offers(3), wish(stages=2)))
    assert (reason.value, reason.limit) == (2, 1)


def test_all_reasons_are_told_at_once() -> None:
    reasons = refused(plan(MANIFEST, [], wish(stages=9, time_left_ms=0)))
    assert {type(reason) for reason in reasons} == {NoCutForK, DeadlineImpossible, TooFewPeers}


def key(stages: int, index: int) -> tuple[bytes, int, int]:
    return (MODEL, stages, index)


def test_workers_of_as_many_classes_cannot_agree() -> None:
    alone = [replace(each, classes={key(1, 0): each.worker}) for each in offers(3)]
    [reason] = refused(plan(MANIFEST, alone, wish(stages=1)))
    assert type(reason) is ClassMissing
    assert (reason.value, reason.limit) == (1, 2)
    assert planned(plan(MANIFEST, alone, wish(stages=1, redundancy=1))).units
    # One that proved nothing yet may still be of the class of another.
    assert planned(plan(MANIFEST, [*alone[:2], offer(3)], wish(stages=1))).units


@pytest.mark.parametrize(
    ("price", "opinions"),
    [(0, 1), (MICRO_PER_FTNS // 10 - 1, 1), (MICRO_PER_FTNS // 10, 3), (10 * MICRO_PER_FTNS, 5)],
)
def test_opinions_follow_the_value(price: int, opinions: int) -> None:
    many = [offer(index + 1, price=price) for index in range(5)]
    found = planned(plan(MANIFEST, many, wish(stages=1, redundancy=BY_VALUE)))
    assert opinions_for(price * 10) == opinions
    assert [len(unit.workers) for unit in found.units] == [opinions]
    assert found.units[0].needed == needed_of(opinions)


@given(st.integers(1, 8), st.integers(1, 3), st.integers(1, 5), st.integers(1, 12))
def test_every_row_of_every_stage_is_in_one_unit(
    count: int, stages: int, redundancy: int, spread: int
) -> None:
    rows = tuple(range(1, 10))
    asked = wish(stages=stages, redundancy=redundancy, spread=spread, batch_rows=rows)
    found = plan(MANIFEST, offers(count), asked)
    if count < redundancy:
        assert [type(reason) for reason in refused(found)] == [TooFewPeers]
        return
    made = planned(found)
    for stage in range(stages):
        covered = [
            batch
            for unit in made.units
            if unit.stage == stage
            for batch in range(unit.first, unit.first + unit.count)
        ]
        assert covered == list(range(len(rows)))
    for unit, shard in zip(made.units, made.shards, strict=True):
        assert (unit.stages, unit.stage) == (shard.stages, shard.index)
        assert len(set(unit.workers)) == len(unit.workers) == redundancy < 2 * unit.needed
        assert set(unit.workers) <= set(made.peers)


@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=8),
    st.integers(0, 5),
    st.integers(0, 3),
    st.integers(0, 5_000),
    st.lists(st.integers(1, 9), min_size=1, max_size=12),
)
def test_escrow_is_never_above_the_cap(
    prices: list[int], redundancy: int, spares: int, cap: int, rows: list[int]
) -> None:
    """Reserve and budget together; and no plan reserves less than its units can cost."""
    given_offers = [offer(index + 1, price=price) for index, price in enumerate(prices)]
    asked = wish(
        stages=None,
        spread=None,
        redundancy=redundancy,
        spares=spares,
        price_cap=cap,
        batch_rows=tuple(rows),
    )
    found = plan(MANIFEST, given_offers, asked)
    if isinstance(found, Refused):
        assert found.reasons
        return
    reserve = sum(
        unit.price_per_row * sum(rows[unit.first : unit.first + unit.count]) * len(unit.workers)
        for unit in found.units
    )
    assert found.amount == reserve + found.budget <= cap
    by_account = {each.worker: each.price_per_row for each in given_offers}
    assert all(by_account[w] <= unit.price_per_row for unit in found.units for w in unit.workers)


def test_rows_are_spread_where_it_was_measured_to_pay() -> None:
    quick = [replace(each, row_ms={key(1, 0): 10.0}, rtt_ms=1.0) for each in offers(4)]
    asked = wish(stages=None, spread=None, redundancy=1, batch_rows=(8,) * 32)
    found = planned(plan(MANIFEST, quick, asked))
    assert {unit.stages for unit in found.units} == {1}
    assert len({unit.workers for unit in found.units}) == 4
    assert found.why.one_machine_ms == 10.0 * 8 * 32
    assert found.why.plan_ms is not None
    assert found.why.plan_ms < found.why.one_machine_ms / 3.5
    assert "one machine: 2560 ms, plan: 640 ms, 4.00 times" in found.why.because


def test_model_too_large_for_one_goes_into_stages_and_says_so() -> None:
    shards = tuple(
        msgspec.structs.replace(s, weight_bytes=60 * MIB // s.stages) for s in MANIFEST.shards
    )
    manifest = msgspec.structs.replace(MANIFEST, shards=shards)
    small = [replace(each, memory_bytes=170 * MIB) for each in offers(3)]
    asked = wish(stages=None, spread=None, redundancy=1)
    found = planned(plan(manifest, small, asked))
    assert {unit.stages for unit in found.units} == {2}
    assert found.why.one_machine_ms is None
    [why] = [each.why_not for each in found.why.considered if each.stages == 1]
    assert "needs" in why
    tiny = [replace(each, memory_bytes=100 * MIB) for each in offers(3)]
    assert DoesNotFit in {type(reason) for reason in refused(plan(manifest, tiny, asked))}


def test_slow_links_keep_rows_whole() -> None:
    """A pipeline moves its boundary tensors; over such links one machine is quicker."""
    slow = [
        replace(each, row_ms={key(1, 0): 4.0}, rtt_ms=20.0, bytes_per_s=2_000.0)
        for each in offers(3)
    ]
    asked = wish(stages=None, spread=1, redundancy=1, batch_rows=(8,) * 16, sizes={"width": 50})
    found = planned(plan(MANIFEST, slow, asked))
    assert {unit.stages for unit in found.units} == {1}
    assert len(found.why.considered) == 3


def test_one_row_goes_the_shortest_way() -> None:
    near = replace(offer(9), rtt_ms=1.0, row_ms={key(1, 0): 5.0})
    far = replace(offer(1), rtt_ms=300.0, row_ms={key(1, 0): 5.0})
    found = planned(plan(MANIFEST, [far, near], wish(stages=1, redundancy=1, batch_rows=(1,))))
    assert found.units[0].workers == (near.worker,)


def test_first_stage_can_stay_at_home() -> None:
    found = planned(plan(MANIFEST, offers(3), wish(stages=3, home_stages=1)))
    assert [unit.stage for unit in found.units] == [1, 2]
    assert [shard.index for shard in found.home] == [0]
    [reason] = refused(plan(MANIFEST, offers(3), wish(stages=2, home_stages=2)))
    assert type(reason) is NoCutForK


def test_only_named_accounts_work() -> None:
    wanted = (bytes([2]) * 32,)
    found = planned(plan(MANIFEST, offers(3), wish(stages=1, redundancy=1, only=wanted)))
    assert found.units[0].workers == wanted


@given(
    st.lists(st.integers(0, 300), min_size=1, max_size=4),
    st.integers(1, 3),
    st.integers(1, 3),
)
def test_nobody_is_named_for_more_than_its_pledge_covers(
    pledges: list[int], stages: int, spread: int
) -> None:
    """Of units done alone: it would refuse the one too many, after the lock was paid for."""
    able = [replace(offer(n + 1), bonded_for=covers) for n, covers in enumerate(pledges)]
    rows = (4,) * 12
    found = plan(MANIFEST, able, wish(batch_rows=rows, stages=stages, spread=spread, redundancy=1))
    if isinstance(found, Refused):
        assert {reason.reason for reason in found.reasons} == {"too_few_peers"}
        return
    owed: Counter[bytes] = Counter()
    for unit in found.units:
        owed[unit.workers[0]] += reserve_of(unit, rows)
    for one in able:
        assert owed[one.worker] <= (one.bonded_for or 0)


def test_a_pledge_short_of_two_stages_lets_another_do_one() -> None:
    """One micro-batch goes the shortest way, unless that asks too much of one pledge."""
    quick, slow = (
        replace(offer(n), bonded_for=5 * 4, rtt_ms=rtt) for n, rtt in ((1, 1.0), (2, 9.0))
    )
    found = planned(plan(MANIFEST, [quick, slow], wish(batch_rows=(4,), stages=2, redundancy=1)))
    assert sorted(unit.workers[0] for unit in found.units) == [quick.worker, slow.worker]
    [reason] = refused(plan(MANIFEST, [quick], wish(batch_rows=(4,), stages=2, redundancy=1)))
    assert (reason.reason, reason.value, reason.limit) == ("too_few_peers", 20, 40)
