"""Manifest and offers in, plan or reasons out; nothing starts before a plan is valid.

Pure. Every reason is typed and carries the value and the limit; the plan says why it is as it is.
Source: docs/spec/work.md, "Planning".
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from prsm.node.inference.estimate import Clockwork
from prsm.node.inference.explain import because
from prsm.node.inference.layout import Layout, lay_out
from prsm.node.inference.obstacles import (
    against_number,
    against_offers,
    against_wish,
    is_bonded,
    too_dear,
    too_little_pledged,
)
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
from prsm.node.inference.wishes import (
    BY_VALUE,
    OPINIONS,
    Considered,
    Explanation,
    Mode,
    Plan,
    Refused,
    Wish,
    WorkerOffer,
)
from prsm.protocol.ids import MICRO_PER_FTNS
from prsm.protocol.messages.models import ModelManifest, Shard
from prsm.protocol.transactions.payloads import UNITS_MAX, unit_batches_max

__all__ = [
    "ClassMissing",
    "DeadlineImpossible",
    "DoesNotFit",
    "LinkBound",
    "NoCutForK",
    "OpRefused",
    "Plan",
    "PlanRefused",
    "PriceOverCap",
    "Refused",
    "RuntimeMismatch",
    "TooFewPeers",
    "TooManyBatches",
    "Wish",
    "WorkerOffer",
    "opinions_for",
    "plan",
]

# Each further unit is another opening, receipt and settlement: a layout of more units must gain
# a tenth. A range of fewer batches than the window never fills it.
GAIN_PERCENT: Final = 10
RANGE_BATCHES_MIN: Final = 4
SAMPLED_MICRO: Final = 1 * MICRO_PER_FTNS  # below it a job is checked by sampling
PRECIOUS_MICRO: Final = 100 * MICRO_PER_FTNS  # from it on five opinions


def opinions_for(value: int) -> int:
    """How many workers give an opinion on work of a price, in micro-FTNS of one opinion."""
    if value < SAMPLED_MICRO:
        return 1
    return 3 if value < PRECIOUS_MICRO else 5


def plan(manifest: ModelManifest, offers: Sequence[WorkerOffer], wish: Wish) -> Plan | Refused:
    """Find the best layout of the job over the workers, or say everything that stands against it.

    Best is the shortest estimate; where too little was measured, the fewest stages that fit,
    spread over as many workers as have a full window of micro-batches.
    """
    allowed = [o for o in offers if not wish.only or o.worker in wish.only]
    opinions = wish.redundancy
    if opinions == BY_VALUE:
        cheapest = min((o.price_per_row for o in allowed), default=0)
        opinions = opinions_for(cheapest * wish.rows)
        if opinions == 1 and not any(is_bonded(offer, wish) for offer in allowed):
            opinions = OPINIONS  # nobody could be made to pay for a lie
    reasons = list(against_wish(manifest, wish, opinions))
    if reasons:
        return Refused((*reasons, *against_number(allowed, opinions)))
    clockwork = Clockwork(wish.model, manifest.shards, allowed, wish.sizes)
    found: list[Layout] = []
    refusals: dict[str, PlanRefused] = {}
    rejected: list[Considered] = []
    for stages in _stages_to_try(manifest, wish):
        shards = shards_of(manifest, stages)
        able, against = against_offers(manifest, shards, allowed, wish, opinions)
        if against:
            refusals.update((reason.reason, reason) for reason in against)
            rejected.append(_considered(stages, 0, None, against[0].what))
            continue
        found += [
            lay_out(wish, shards, able, clockwork, opinions, spread)
            for spread in _spreads_to_try(wish, stages, opinions, len(able))
        ]
    good = []
    for layout in found:
        against_it = too_dear(layout, wish) or too_little_pledged(layout, wish)
        if against_it is None:
            good.append(layout)
        else:
            # What the way asks that comes nearest: more would be allowed in vain.
            reason = against_it.reason
            refusals[reason] = min(refusals.get(reason, against_it), against_it, key=_missed_by)
            rejected.append(_of(layout, against_it.what))
    if not good:
        return Refused(tuple(refusals.values()))
    best = _best(good)
    others = [_of(layout, _why_not(layout, best)) for layout in good if layout is not best]
    return _planned(best, manifest, allowed, wish, clockwork, (*others, *rejected))


def _missed_by(refused: PlanRefused) -> int:
    value, limit = refused.value, refused.limit
    assert isinstance(value, int)
    assert isinstance(limit, int)
    return abs(value - limit)


def shards_of(manifest: ModelManifest, stages: int) -> tuple[Shard, ...]:
    """The shards of a split, in order; empty when there is none."""
    found = sorted((s for s in manifest.shards if s.stages == stages), key=lambda s: s.index)
    return tuple(found) if [s.index for s in found] == list(range(stages)) else ()


def _stages_to_try(manifest: ModelManifest, wish: Wish) -> list[int]:
    if wish.stages is not None:
        return [wish.stages]
    exist = sorted({shard.stages for shard in manifest.shards})
    return [
        stages
        for stages in exist
        if stages > wish.home_stages
        and all(len(s.outputs) == 1 for s in shards_of(manifest, stages)[:-1])
    ]


def _spreads_to_try(wish: Wish, stages: int, opinions: int, workers: int) -> list[int]:
    if wish.spread is not None:
        return [min(wish.spread, len(wish.batch_rows))]
    paid = stages - wish.home_stages
    most = workers if opinions > 1 else workers // paid
    most = max(1, min(most, len(wish.batch_rows) // RANGE_BATCHES_MIN, UNITS_MAX // paid))
    least = -(-len(wish.batch_rows) // unit_batches_max(opinions))  # their receipts must fit
    return sorted(
        {max(least, each) for each in (1, *(2**i for i in range(6)), most) if each <= most}
    )


def _best(layouts: Sequence[Layout]) -> Layout:
    """The shortest; of those within a tenth of it the one with fewest units, then the cheapest."""
    known = [layout.estimate_ms for layout in layouts if layout.estimate_ms is not None]
    if len(known) < len(layouts):  # nothing was measured of this model
        return min(layouts, key=lambda each: (each.stages, -each.spread, each.amount))
    bound = min(known) * (100 + GAIN_PERCENT) / 100
    near = [each for each in layouts if (each.estimate_ms or 0.0) <= bound]
    return min(near, key=lambda each: (len(each.units), each.amount, each.stages))


def _why_not(layout: Layout, best: Layout) -> str:
    if layout.estimate_ms is None or best.estimate_ms is None:
        return "not measured yet; fewer stages and more workers side by side come first"
    if layout.estimate_ms < best.estimate_ms:
        gain = 100 - 100 * layout.estimate_ms / best.estimate_ms
        return f"{gain:.0f} % quicker is not worth {len(layout.units) - len(best.units)} more units"
    return f"{layout.estimate_ms - best.estimate_ms:.0f} ms slower"


def _of(layout: Layout, why_not: str) -> Considered:
    return _considered(layout.stages, layout.spread, layout, why_not)


def _considered(stages: int, spread: int, layout: Layout | None, why_not: str) -> Considered:
    return Considered(
        mode=Mode.REPLICAS if stages == 1 else Mode.PIPELINE,
        stages=stages,
        spread=spread,
        workers=len(layout.offers) if layout else 0,
        amount=layout.amount if layout else 0,
        estimate_ms=layout.estimate_ms if layout else None,
        why_not=why_not,
    )


def _planned(
    best: Layout,
    manifest: ModelManifest,
    offers: Sequence[WorkerOffer],
    wish: Wish,
    clockwork: Clockwork,
    others: Sequence[Considered],
) -> Plan:
    one_ms = _one_machine_ms(manifest, offers, wish, clockwork)
    why = Explanation(
        one_machine_ms=one_ms,
        plan_ms=best.estimate_ms,
        because=because(best, wish, one_ms, others),
        considered=(_of(best, ""), *others),
    )
    by_account: Mapping[bytes, WorkerOffer] = {offer.worker: offer for offer in best.offers}
    named = {worker for unit in best.units for worker in unit.workers}
    return Plan(
        units=best.units,
        shards=best.shards,
        peers={worker: by_account[worker].peer for worker in sorted(named)},
        amount=best.amount,
        budget=best.budget,
        home=best.home,
        runtime=manifest.compute.runtime,
        sizes=wish.sizes,
        why=why,
    )


def _one_machine_ms(
    manifest: ModelManifest,
    offers: Sequence[WorkerOffer],
    wish: Wish,
    clockwork: Clockwork,
) -> float | None:
    """All rows on the best single worker that fits the whole model."""
    whole = shards_of(manifest, 1)
    if not whole:
        return None
    able, against = against_offers(manifest, whole, offers, replace(wish, home_stages=0), 1)
    times = [clockwork.row_ms(offer, whole[0]) for offer in able]
    known = [ms for ms in times if ms is not None]
    return min(known) * wish.rows if known and not against else None
