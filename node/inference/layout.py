"""A job laid over workers: units by stage and range of rows, who does them, what they cost.

Pure. Source: docs/spec/work.md, "Planning" (who works on which unit).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import msgspec

from prsm.node.inference.estimate import Clockwork
from prsm.node.inference.routing import cheapest
from prsm.node.inference.wishes import ShardKey, Wish, WorkerOffer, needed_of
from prsm.protocol.messages.models import Shard
from prsm.protocol.transactions.payloads import Unit

LATENCY_BATCHES: Final = 1  # so few are a question of latency: the shortest path, not even load


Place = tuple[Shard, int, int]  # a stage, its first micro-batch, and how many


@dataclass(frozen=True, slots=True)
class Layout:
    """One way to do a job.

    Attributes:
        stages: of the model, those at home included.
        spread: ranges of rows.
        opinions: workers of each unit.
        units: in order of stages, then of rows.
        shards: of each unit.
        home: shards the requester computes.
        offers: of the workers named.
        reserve: micro-FTNS of all units.
        budget: micro-FTNS for replacements.
        estimate_ms: None where too little was measured.
    """

    stages: int
    spread: int
    opinions: int
    units: tuple[Unit, ...]
    shards: tuple[Shard, ...]
    home: tuple[Shard, ...]
    offers: tuple[WorkerOffer, ...]
    reserve: int
    budget: int
    estimate_ms: float | None

    @property
    def amount(self) -> int:
        """Micro-FTNS the escrow holds."""
        return self.reserve + self.budget


def lay_out(
    wish: Wish,
    shards: Sequence[Shard],
    able: Sequence[WorkerOffer],
    clockwork: Clockwork,
    opinions: int,
    spread: int,
) -> Layout:
    """Name the workers of every unit.

    The best workers are taken, no more than there are units or opinions: those that hold the
    model first, then the cheapest, then the quickest, then by account. The largest unit goes
    first, to those who have least to do; so with equal workers the load is even. Of units that
    nobody compares nobody gets more than its pledge covers, while another's covers it.
    """
    paid = tuple(shards[wish.home_stages :])
    ranges = split_batches(len(wish.batch_rows), spread)
    chosen = rank(wish, able, clockwork, paid[0])[: max(opinions, len(paid) * len(ranges))]
    places = [(shard, first, count) for shard in paid for first, count in ranges]
    named = _route(wish, paid, chosen, clockwork) if _is_single(wish, opinions, ranges) else None
    if named is None or uncovered(named, places, wish):
        named = _share_out(wish, places, chosen, clockwork, opinions)
    units = tuple(
        Unit(
            kind=wish.kind,
            model=wish.model,
            stages=shard.stages,
            stage=shard.index,
            first=first,
            count=count,
            needed=needed_of(opinions),
            price_per_row=max(offer.price_per_row for offer in workers),
            rates=None,
            workers=tuple(offer.worker for offer in workers),
        )
        for (shard, first, count), workers in zip(places, named, strict=True)
    )
    by_account = {offer.worker: offer for workers in named for offer in workers}
    reserves = [reserve_of(unit, wish.batch_rows) for unit in units]
    spares = wish.spares if wish.spares is not None else int(opinions == 1)
    estimate = clockwork.makespan_ms(
        list(zip(units, (shard for shard, _, _ in places), strict=True)),
        by_account,
        wish.batch_rows,
        window=wish.window,
    )
    return Layout(
        stages=len(shards),
        spread=len(ranges),
        opinions=opinions,
        units=units,
        shards=tuple(shard for shard, _, _ in places),
        home=tuple(shards[: wish.home_stages]),
        offers=tuple(by_account[worker] for worker in sorted(by_account)),
        reserve=sum(reserves),
        budget=spares * max(reserves),
        estimate_ms=estimate,
    )


def reserve_of(unit: Unit, batch_rows: Sequence[int]) -> int:
    """Micro-FTNS a unit can cost at most: every worker, every row."""
    rows = sum(batch_rows[unit.first : unit.first + unit.count])
    return unit.price_per_row * rows * len(unit.workers)


def split_batches(batches: int, parts: int) -> list[tuple[int, int]]:
    """Ranges (first, count) of micro-batches, as even as whole ones go."""
    parts = min(parts, batches)
    edges = [batches * part // parts for part in range(parts + 1)]
    return [(start, end - start) for start, end in pairwise(edges)]


def rank(
    wish: Wish, offers: Sequence[WorkerOffer], clockwork: Clockwork, shard: Shard
) -> list[WorkerOffer]:
    """Offers, the best first."""

    def key(offer: WorkerOffer) -> tuple[bool, int, float, bytes]:
        ms = clockwork.cost(offer, shard, max(wish.batch_rows)).total_ms
        return (wish.model not in offer.models, offer.price_per_row, ms, offer.worker)

    return sorted(offers, key=key)


def _is_single(wish: Wish, opinions: int, ranges: Sequence[tuple[int, int]]) -> bool:
    return opinions == 1 and len(ranges) == 1 and len(wish.batch_rows) <= LATENCY_BATCHES


def _route(
    wish: Wish, paid: Sequence[Shard], chosen: Sequence[WorkerOffer], clockwork: Clockwork
) -> list[list[WorkerOffer]] | None:
    """One worker a stage, along the shortest path."""
    by_peer = {offer.peer: offer for offer in chosen}
    costs = [
        {o.peer: clockwork.cost(o, shard, max(wish.batch_rows)) for o in chosen} for shard in paid
    ]
    route = cheapest(costs)
    return None if route is None else [[by_peer[peer]] for peer in route.peers]


def _share_out(
    wish: Wish,
    places: Sequence[Place],
    chosen: Sequence[WorkerOffer],
    clockwork: Clockwork,
    opinions: int,
) -> list[list[WorkerOffer]]:
    """Workers of every unit: the longest unit first, to those who have least to do."""
    load = {offer.worker: 0.0 for offer in chosen}
    owed = dict.fromkeys(load, 0)  # micro-FTNS of units that nobody compares
    spare = dict.fromkeys(load, 0)  # how often somebody only stands by
    found: dict[int, list[WorkerOffer]] = {}

    def work(offer: WorkerOffer, place: Place) -> float:
        shard, first, count = place
        rows = sum(wish.batch_rows[first : first + count])
        row_ms = clockwork.row_ms(offer, shard)
        return rows * (max(1, shard.weight_flops) if row_ms is None else row_ms)

    order = sorted(range(len(places)), key=lambda i: (-work(chosen[0], places[i]), i))
    for index in order:
        place = places[index]
        ahead = {o.worker: load[o.worker] + work(o, place) for o in chosen}
        due = {o.worker: owed[o.worker] + _alone(o, place, wish, opinions) for o in chosen}
        least = sorted(
            chosen,
            key=lambda o: (not o.is_bonded(due[o.worker]), ahead[o.worker], spare[o.worker]),
        )
        named = one_class(least, (wish.model, place[0].stages, place[0].index), opinions)
        for offer in named[: needed_of(opinions)]:
            load[offer.worker] = ahead[offer.worker]
            owed[offer.worker] = due[offer.worker]
        for offer in named[needed_of(opinions) :]:
            spare[offer.worker] += 1
        found[index] = named
    return [found[index] for index in range(len(places))]


def uncovered(
    named: Sequence[Sequence[WorkerOffer]], places: Sequence[Place], wish: Wish
) -> WorkerOffer | None:
    """Somebody who would have to pledge more for what it does alone; None where nobody."""
    owed: Counter[bytes] = Counter()
    for workers, place in zip(named, places, strict=True):
        for offer in workers:
            owed[offer.worker] += _alone(offer, place, wish, len(workers))
            if not offer.is_bonded(owed[offer.worker]):
                return offer
    return None


def _alone(offer: WorkerOffer, place: Place, wish: Wish, opinions: int) -> int:
    """Micro-FTNS of a unit that this worker would do alone; 0 where others compare."""
    _, first, count = place
    return offer.price_per_row * sum(wish.batch_rows[first : first + count]) * (opinions == 1)


def one_class(offers: Sequence[WorkerOffer], key: ShardKey, opinions: int) -> list[WorkerOffer]:
    """The first so many offers that may share a class: proved equal, or not proved yet."""
    for leader in offers:
        wanted = leader.classes.get(key)
        alike = [o for o in offers if wanted is None or o.classes.get(key, wanted) == wanted]
        if len(alike) >= opinions:
            return list(alike[:opinions])
    return list(offers[:opinions])


def substitute(unit: Unit, *, first: int, count: int, workers: Sequence[WorkerOffer]) -> Unit:
    """The unit of a lease: the same work over a part of the batches, by others."""
    return msgspec.structs.replace(
        unit,
        first=first,
        count=count,
        price_per_row=max(offer.price_per_row for offer in workers),
        workers=tuple(offer.worker for offer in workers),
    )
