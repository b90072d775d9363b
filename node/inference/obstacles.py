"""What stands against a plan: each obstacle with its value, its limit and what to do.

Pure. Source: docs/spec/work.md, "Planning" (the table of reasons).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from prsm.node.inference.estimate import memory_needed, row_bytes
from prsm.node.inference.layout import Layout, reserve_of
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
from prsm.node.inference.wishes import Wish, WorkerOffer, needed_of
from prsm.protocol.ids import format_ftns
from prsm.protocol.limits import WORK_BATCHES_MAX
from prsm.protocol.messages.models import ModelManifest, Shard
from prsm.protocol.transactions.payloads import UNITS_MAX, unit_batches_max

# Before the deadline the receipts must be committed, then settled: a few blocks, with a margin
# for a view change.
SETTLE_MS: Final = 10_000
_Offers = Sequence[WorkerOffer]


def against_wish(manifest: ModelManifest, wish: Wish, opinions: int) -> list[PlanRefused]:
    """What no worker could change: cuts, batches, deadline."""
    reasons: list[PlanRefused] = []
    if wish.stages is not None:
        reasons += _against_stages(manifest, wish.stages, wish.home_stages)
    parts = wish.spread or UNITS_MAX // max(1, (wish.stages or 1) - wish.home_stages)
    batches_max = min(WORK_BATCHES_MAX, parts * unit_batches_max(max(1, opinions)))
    if len(wish.batch_rows) > batches_max:
        reasons.append(
            TooManyBatches(
                f"{len(wish.batch_rows)} micro-batches, at most {batches_max} fit the receipts",
                value=len(wish.batch_rows),
                limit=batches_max,
                hint="put more rows into a micro-batch, or send several jobs",
            )
        )
    needed = SETTLE_MS + wish.estimate_ms
    if wish.time_left_ms < needed:
        reasons.append(_too_late(wish.time_left_ms, needed))
    return reasons


def _against_stages(manifest: ModelManifest, stages: int, home: int) -> list[PlanRefused]:
    shards = sorted((s for s in manifest.shards if s.stages == stages), key=lambda s: s.index)
    if [shard.index for shard in shards] != list(range(stages)) or home >= stages:
        exist = sorted({shard.stages for shard in manifest.shards if shard.stages > home})
        kept = f" of which {home} stay at home" if home else ""
        return [
            NoCutForK(
                f"{manifest.name} is not cut into {stages} stages{kept}, it is into "
                f"{', '.join(map(str, exist)) or 'none'}",
                value=stages,
                limit=tuple(exist),
                hint=f"ask for {exist[0] if exist else 1} stages, "
                "or prepare the model with more cuts",
            )
        ]
    return [
        NoCutForK(
            f"stage {shard.index} of {stages} has {len(shard.outputs)} outputs, a chain of "
            "receipts needs 1 between stages",
            value=len(shard.outputs),
            limit=1,
            hint="ask for 1 stage",
        )
        for shard in shards[:-1]
        if len(shard.outputs) != 1
    ]


def against_offers(
    manifest: ModelManifest,
    shards: Sequence[Shard],
    offers: _Offers,
    wish: Wish,
    opinions: int,
) -> tuple[list[WorkerOffer], list[PlanRefused]]:
    """Who could do every stage of this split, and what stands against it."""
    paid = shards[wish.home_stages :]
    large = max(paid, key=lambda shard: shard.weight_bytes)
    runtime, room = manifest.compute.runtime, memory_needed(large)
    steps: list[tuple[Callable[[WorkerOffer], bool], Callable[[_Offers], PlanRefused]]] = [
        (lambda o: o.runtime == runtime, lambda had: _other_runtime(manifest, had, opinions)),
        (lambda o: not o.refused, lambda had: _refused_by_all(manifest, had)),
        (lambda o: opinions > 1 or is_bonded(o, wish), lambda had: _no_bond(had, wish)),
        (
            lambda o: not o.memory_bytes or room <= o.memory_bytes,
            lambda had: _too_large(large, had, opinions),
        ),
    ]
    left = [offer for offer in offers if offer.runtime]  # empty while its child is away
    for keep, refuse in steps:
        kept = [offer for offer in left if keep(offer)]
        if len(kept) < opinions <= len(left):
            return [], [refuse(left)]
        left = kept
    if few := against_number(left, opinions):
        return [], few
    free = [offer for offer in left if offer.slots_free > 0]
    missing = [r for shard in paid if (r := _no_class(wish.model, shard, free, opinions))]
    slow = _too_thin(paid, free, wish, opinions)
    return free, [*missing, *slow]


def is_bonded(offer: WorkerOffer, wish: Wish) -> bool:
    """Does its pledge cover a unit that nobody compares? Free work needs none."""
    dearest = offer.price_per_row * -(-wish.rows // (wish.spread or 1))
    return offer.is_bonded(dearest)


def against_number(offers: _Offers, opinions: int) -> list[PlanRefused]:
    """Are as many workers free as opinions are asked for?"""
    free = sum(offer.slots_free > 0 for offer in offers)
    return [_too_few(free, opinions)] if free < opinions else []


def too_dear(layout: Layout, wish: Wish) -> PlanRefused | None:
    """Is a layout over the cap, or too late by its own estimate?"""
    if wish.price_cap is not None and layout.amount > wish.price_cap:
        spare = f", {format_ftns(layout.budget)} of it for replacements" if layout.budget else ""
        return PriceOverCap(
            f"the escrow would be {format_ftns(layout.amount)} FTNS{spare}, at most "
            f"{format_ftns(wish.price_cap)} are allowed",
            value=layout.amount,
            limit=wish.price_cap,
            hint="allow more, or send fewer rows",
        )
    needed = SETTLE_MS + int(layout.estimate_ms or 0)
    return _too_late(wish.time_left_ms, needed) if wish.time_left_ms < needed else None


def _too_late(left_ms: int, needed_ms: int) -> DeadlineImpossible:
    return DeadlineImpossible(
        f"{left_ms} ms until the deadline, work and settlement need {needed_ms} ms",
        value=left_ms,
        limit=needed_ms,
        hint="set a later deadline",
    )


def _other_runtime(manifest: ModelManifest, had: _Offers, opinions: int) -> RuntimeMismatch:
    runtime = manifest.compute.runtime
    others = sorted({offer.runtime for offer in had} - {runtime})
    able = sum(offer.runtime == runtime for offer in had)
    return RuntimeMismatch(
        f"{able} workers run {runtime}, {opinions} are needed; others run {', '.join(others)}",
        value=tuple(others),
        limit=runtime,
        hint="install the same version of PRSM on the workers",
    )


def _refused_by_all(manifest: ModelManifest, had: _Offers) -> OpRefused:
    why = [offer.refused for offer in had if offer.refused]
    return OpRefused(
        f"{len(why)} of {len(had)} workers refused {manifest.name}: {why[0]}",
        value=why[0],
        limit=0,
        hint="prepare the model without that operator",
    )


def _too_large(shard: Shard, willing: _Offers, opinions: int) -> DoesNotFit:
    needed = memory_needed(shard)
    rooms = sorted((o.memory_bytes for o in willing if o.memory_bytes), reverse=True)
    return DoesNotFit(
        f"stage {shard.index} of {shard.stages} needs {needed} bytes in one worker, "
        f"the {opinions} largest give {', '.join(map(str, rooms[:opinions]))}",
        value=needed,
        limit=tuple(rooms[:opinions]),
        hint="ask for more stages, or raise executor.memory on the workers",
    )


def too_little_pledged(layout: Layout, wish: Wish) -> PlanRefused | None:
    """Would somebody have to pledge more for all it does alone in a layout?"""
    owed: Counter[bytes] = Counter()
    for unit in layout.units:
        if unit.needed == 1:
            owed[unit.workers[0]] += reserve_of(unit, wish.batch_rows)
    for offer in layout.offers:
        if not offer.is_bonded(due := owed[offer.worker]):
            return TooFewPeers(
                f"a worker would do units of {format_ftns(due)} FTNS alone, its pledge covers "
                f"{format_ftns(offer.bonded_for or 0)}",
                value=offer.bonded_for or 0,
                limit=due,
                hint="connect more workers, or ask for 2 of 3, which needs no pledge",
            )
    return None


def _no_bond(willing: _Offers, wish: Wish) -> TooFewPeers:
    most = max(offer.bonded_for or 0 for offer in willing)
    needed = min(o.price_per_row for o in willing) * -(-wish.rows // (wish.spread or 1))
    return TooFewPeers(
        f"no worker has pledged enough for 1 of 1: units of {format_ftns(needed)} FTNS, pledges "
        f"cover {format_ftns(most)}",
        value=most,
        limit=needed,
        hint="ask for 2 of 3, which needs no pledge, or for more parts of the rows",
    )


def _too_few(free: int, opinions: int) -> TooFewPeers:
    return TooFewPeers(
        f"{free} workers are free, {opinions} opinions need as many",
        value=free,
        limit=opinions,
        hint="connect more workers, or wait until they are free",
    )


def _no_class(model: bytes, shard: Shard, free: _Offers, opinions: int) -> ClassMissing | None:
    """Every worker proved a class of this shard, and none is held by as many as must agree."""
    needed = needed_of(opinions)
    key = (model, shard.stages, shard.index)
    known = [offer.classes[key] for offer in free if key in offer.classes]
    most = max(Counter(known).values(), default=0)
    if len(known) < len(free) or most >= needed:
        return None
    return ClassMissing(
        f"stage {shard.index} of {shard.stages}: {len(free)} workers are of {len(set(known))} "
        f"classes, {needed} of one must agree",
        value=most,
        limit=needed,
        hint="ask for 1 of 1, which is checked by sampling, or connect workers of one kind",
    )


def _too_thin(paid: Sequence[Shard], free: _Offers, wish: Wish, opinions: int) -> list[PlanRefused]:
    """Do the tensors pass the measured links before the deadline?"""
    left_s = max(1, wish.time_left_ms - SETTLE_MS) / 1000
    rates = sorted((o.bytes_per_s for o in free if o.bytes_per_s is not None), reverse=True)
    if len(rates) < len(free):
        return []
    for shard in paid:
        each = row_bytes(shard.inputs, wish.sizes) + row_bytes(shard.outputs, wish.sizes)
        needed = each * wish.rows / left_s
        best = rates[opinions - 1]
        if needed > best:
            return [
                LinkBound(
                    f"stage {shard.index} of {shard.stages} moves {each * wish.rows} bytes, "
                    f"{needed:.0f} bytes/s until the deadline; measured are {best:.0f}",
                    value=int(needed),
                    limit=int(best),
                    hint="ask for 1 stage, which moves whole rows only, or a later deadline",
                )
            ]
    return []
