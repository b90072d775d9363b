"""Plans: even load, and every reason against one with its value and limit."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prsm.node.inference.planner import (
    DeadlineImpossible,
    NoCutForK,
    Plan,
    PlanRefused,
    PriceOverCap,
    Refused,
    RuntimeMismatch,
    TooFewPeers,
    TooManyBatches,
    Wish,
    WorkerOffer,
    plan,
)
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import WORK_BATCHES_MAX
from prsm.protocol.transactions.payloads import unit_batches_max
from tests.tools.work import MODEL, RUNTIME, make_manifest

MANIFEST = make_manifest()


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
    assert [unit.workers for unit in found.units] == [(a, b, c), (b, c, a), (c, a, b)]
    assert [unit.stage for unit in found.units] == [shard.index for shard in found.shards]
    assert found.amount == 3 * 3 * 5 * 10
    assert found.peers == {a: "peer1", b: "peer2", c: "peer3"}


@given(st.integers(3, 9), st.integers(1, 3), st.integers(2, 3))
def test_load_is_even_and_workers_of_a_unit_are_distinct(
    count: int, stages: int, redundancy: int
) -> None:
    found = planned(plan(MANIFEST, offers(count), wish(stages=stages, redundancy=redundancy)))
    primaries = [unit.workers[0] for unit in found.units]
    assert len(found.units) == stages
    assert all(len(set(unit.workers)) == redundancy for unit in found.units)
    assert max(primaries.count(worker) for worker in primaries) == 1


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


@pytest.mark.parametrize(
    ("given_offers", "changes", "expected", "value", "limit"),
    [
        (offers(3), {"stages": 4}, NoCutForK, 4, (1, 2, 3)),
        (offers(2), {}, TooFewPeers, 2, 3),
        ([offer(1), offer(2), offer(3, free=0)], {}, TooFewPeers, 2, 3),
        ([offer(1), offer(2), offer(3, runtime="x")], {}, RuntimeMismatch, ("x",), RUNTIME),
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
            {"batch_rows": (1,) * (WORK_BATCHES_MAX + 1)},
            TooManyBatches,
            WORK_BATCHES_MAX + 1,
            unit_batches_max(3),
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
