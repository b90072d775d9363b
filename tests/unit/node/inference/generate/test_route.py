"""Who is asked for the stages of a generation: who may be believed alone, then the cheapest."""

from collections.abc import Collection
from dataclasses import replace
from typing import Final

import pytest

from prsm.node.inference.generate.route import Route, Wanted, lay_out
from prsm.node.inference.refusals import DoesNotFit, RuntimeMismatch, SessionQuota, TooFewPeers
from prsm.node.inference.wishes import WorkerOffer
from prsm.protocol.generating import GREEDY, kv_shape
from prsm.protocol.ids import PeerId
from tests.tools.generating import POSITION_BYTES, generating_manifest

ROOMS: Final = (1000, 3000)
POSITIONS: Final = 20

WANTED = Wanted(
    model=b"m" * 36,
    runtime="r",
    stages=2,
    first=0,
    rows=(4, 16),
    shapes=tuple(
        kv_shape(shard.inputs, shard.outputs)
        for shard in generating_manifest().shards
        if shard.stages == 2
    ),
    rooms=ROOMS,
    sampling=GREEDY,
    price_cap=None,
    deadline_ms=600_000,
    tenant=b"",
)


def offer(
    name: str,
    price: int,
    bonded_for: int | None = None,
    memory_bytes: int = 0,
    slots_free: int = 1,
) -> WorkerOffer:
    return WorkerOffer(
        worker=name.encode() * 32,
        peer=PeerId(name),
        price_per_row=price,
        slots_free=slots_free,
        runtime="r",
        models=frozenset(),
        bonded_for=bonded_for,
        memory_bytes=memory_bytes,
    )


def workers(*offers: WorkerOffer) -> list[bytes]:
    return names(laid(*offers))


def laid(
    *offers: WorkerOffer, beside: Route | None = None, failed: Collection[PeerId] = ()
) -> Route:
    return lay_out(offers, WANTED, job=bytes(32), only=range(2), beside=beside, failed=failed)


def names(route: Route) -> list[bytes]:
    return [unit.workers[0][:1] for unit in route.units]


def test_workers_whose_pledge_does_not_cover_a_stage_are_left_out() -> None:
    """A lock that names them would be refused by themselves, after it was paid for."""
    assert workers(offer("a", 1, 19), offer("b", 2, 40), offer("c", 3, 60)) == [b"b", b"c"]
    assert workers(offer("a", 0, 0), offer("b", 2, 40)) == [b"a", b"b"], "free work needs none"
    assert workers(offer("a", 1, None), offer("b", 2, 40)) == [b"a", b"b"], "nobody asked"


def test_nobody_with_enough_pledged_is_said_with_the_figures() -> None:
    with pytest.raises(
        TooFewPeers, match=r"pledged enough for a stage of 0\.00002 FTNS"
    ) as refused:
        workers(offer("a", 1, 19), offer("b", 2, 0))
    assert (refused.value.value, refused.value.limit) == (19, 20)


def test_one_pledge_covers_all_stages_of_a_worker() -> None:
    """It would refuse the second one, after the lock was paid for."""
    assert workers(offer("a", 1, 39), offer("b", 1, 39)) == [b"a", b"b"]
    assert workers(offer("a", 1, 40)) == [b"a", b"a"]
    with pytest.raises(TooFewPeers, match="cover 1 of 2 stages"):
        workers(offer("a", 1, 39))
    again = lay_out((offer("a", 1, 20), offer("b", 1, 39)), WANTED, job=bytes(32), only=range(1, 2))
    assert names(again) == [b"b"]


def test_a_spare_is_covered_beside_the_main_route_where_it_can_be() -> None:
    a, b, c = offer("a", 1, 20), offer("b", 1, 20), offer("c", 2, 80)
    main = laid(a, b)
    assert names(laid(a, b, c, beside=main)) == [b"c", b"c"]
    assert names(laid(a, b, beside=main)) == [b"b", b"a"], "better than none: it may come free"


def test_a_child_that_is_away_is_no_other_version() -> None:
    away = replace(offer("a", 1), runtime="", slots_free=0)
    with pytest.raises(TooFewPeers, match="1 workers answered, none is free"):
        workers(away)
    with pytest.raises(RuntimeMismatch, match=r"others run x$"):
        workers(away, replace(offer("b", 1), runtime="x"))


def test_who_failed_lately_is_taken_where_nobody_else_is() -> None:
    """Cheapest of all, and struck: last; alone, better than nobody."""
    a, b, c = offer("a", 1), offer("b", 2), offer("c", 3)
    assert names(laid(a, b, c, failed={PeerId("a")})) == [b"b", b"c"]
    assert names(laid(a, b, failed={PeerId("a")})) == [b"b", b"a"]
    assert names(laid(a, failed={PeerId("a")})) == [b"a", b"a"]


def test_a_spare_is_done_by_others() -> None:
    """Workers that do nothing of the main route first; never the one that does the same stage."""
    offers = [offer(name, 1) for name in "abcd"]
    main = laid(*offers)
    assert names(main) == [b"a", b"b"]
    assert names(laid(*offers, beside=main)) == [b"c", b"d"]
    assert names(laid(*offers[:3], beside=main)) == [b"c", b"a"]
    assert names(laid(*offers[:2], beside=main)) == [b"b", b"a"]
    started = offer("c", 1, slots_free=0)  # a worker that was just started answers so
    assert names(laid(*offers[:2], started, beside=main)) == [b"b", b"a"]
    with pytest.raises(TooFewPeers, match="nobody else does stage 1"):
        laid(offers[0], offer("b", 1, memory_bytes=1500), beside=laid(offers[0]))


def test_a_worker_without_room_for_shard_and_cache_is_not_named_for_that_stage() -> None:
    cache = POSITIONS * POSITION_BYTES
    small = offer("a", 1, memory_bytes=ROOMS[0] + cache)
    large = offer("b", 2, memory_bytes=ROOMS[1] + cache)
    silent = offer("c", 3)
    assert names(laid(small, large)) == [b"a", b"b"]
    assert names(laid(small, large, silent)) == [b"a", b"c"]
    with pytest.raises(DoesNotFit) as large_refused:
        laid(small)
    assert (large_refused.value.value, large_refused.value.limit) == (3000, 1000 + cache)
    with pytest.raises(SessionQuota) as quota_refused:
        laid(small, offer("b", 2, memory_bytes=ROOMS[1] + cache - 1))
    assert (quota_refused.value.value, quota_refused.value.limit) == (cache, cache - 1)
