"""Manifest and capacities in, plan or reasons out; nothing starts before a plan is valid.

Pure. Every reason is typed and carries the value and the limit. Source: docs/spec/work.md,
"Redundancy" (who works on which stage).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from prsm.protocol.errors import LocalError
from prsm.protocol.ids import PeerId, format_ftns
from prsm.protocol.messages.models import ModelManifest, Shard
from prsm.protocol.receipts import WorkKind
from prsm.protocol.transactions.payloads import Unit, unit_batches_max

# Before the deadline the receipts must be committed, then settled: a few blocks, with a margin
# for a view change.
SETTLE_MS: Final = 10_000
OPINIONS_DEFAULT: Final = 3  # primary, replica, and the third that decides
NEEDED: Final = 2  # equal ones


class PlanRefused(LocalError):
    """This job cannot run as asked; `value` is what there is, `limit` what it would need."""

    reason: ClassVar[str] = "plan_refused"

    def __init__(self, what: str, *, value: object, limit: object, hint: str = "") -> None:
        super().__init__(what, hint=hint)
        self.value = value
        self.limit = limit


class NoCutForK(PlanRefused):
    """The model is not cut into that many stages."""

    reason = "no_cut_for_k"


class TooFewPeers(PlanRefused):
    """Fewer workers than opinions needed."""

    reason = "too_few_peers"


class RuntimeMismatch(PlanRefused):
    """Workers run another runtime than the model was pinned with: their bits would differ."""

    reason = "runtime_mismatch"


class PriceOverCap(PlanRefused):
    """The escrow would be higher than the requester allows."""

    reason = "price_over_cap"


class DeadlineImpossible(PlanRefused):
    """The estimate does not fit before the deadline."""

    reason = "deadline_impossible"


class TooManyBatches(PlanRefused):
    """More micro-batches than a receipt can list."""

    reason = "too_many_batches"


@dataclass(frozen=True, slots=True)
class WorkerOffer:
    """A worker that answered `AskCapacity`: its account, its peer, its terms."""

    worker: bytes
    peer: PeerId
    price_per_row: int
    slots_free: int
    runtime: str
    models: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class Wish:
    """What the requester wants.

    Attributes:
        model: CID of the manifest.
        batch_rows: rows of each micro-batch.
        stages: pipeline stages.
        redundancy: workers named for each stage: 3, or 2 without a third that decides.
        price_cap: micro-FTNS the whole escrow may hold, None for no bound.
        time_left_ms: until the deadline, in block time.
        estimate_ms: how long the rows took on earlier jobs, 0 when unknown.
    """

    model: bytes
    batch_rows: tuple[int, ...]
    stages: int = 1
    redundancy: int = OPINIONS_DEFAULT
    price_cap: int | None = None
    time_left_ms: int = 3_600_000
    estimate_ms: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """A job that can be locked: its units in order of stages, and the peers of its workers."""

    units: tuple[Unit, ...]
    shards: tuple[Shard, ...]
    peers: dict[bytes, PeerId]
    amount: int  # micro-FTNS the escrow holds


@dataclass(frozen=True, slots=True)
class Refused:
    """Why there is no plan: one reason or more."""

    reasons: tuple[PlanRefused, ...]


def plan(manifest: ModelManifest, offers: Sequence[WorkerOffer], wish: Wish) -> Plan | Refused:
    """Lay the stages over the workers, or say everything that stands against it.

    The best workers are taken: those that hold the model first, then the cheapest, then by
    account. With w workers, stage k goes to w[k], w[k+1], w[k+2] (modulo their number), so the
    load is even and each worker is primary, replica and third in turn.
    """
    shards = tuple(
        sorted((s for s in manifest.shards if s.stages == wish.stages), key=lambda s: s.index)
    )
    reasons = list(_against_wish(manifest, shards, wish))
    able = [offer for offer in offers if offer.runtime == manifest.compute.runtime]
    free = [offer for offer in able if offer.slots_free > 0]
    if len(free) < wish.redundancy:
        reasons.append(_too_few(manifest, offers, able, wish))
    if reasons:
        return Refused(tuple(reasons))
    # Every further worker beyond one a stage and opinion would only stay idle.
    most = max(wish.redundancy, wish.stages)
    chosen = sorted(free, key=lambda o: (wish.model not in o.models, o.price_per_row, o.worker))
    chosen = chosen[:most]
    units = tuple(_unit(wish, index, chosen) for index in range(wish.stages))
    amount = sum(unit.price_per_row * len(unit.workers) for unit in units) * sum(wish.batch_rows)
    if wish.price_cap is not None and amount > wish.price_cap:
        over = PriceOverCap(
            f"the escrow would be {format_ftns(amount)} FTNS, at most "
            f"{format_ftns(wish.price_cap)} are allowed",
            value=amount,
            limit=wish.price_cap,
            hint="allow more, or send fewer rows",
        )
        return Refused((over,))
    return Plan(units, shards, {offer.worker: offer.peer for offer in chosen}, amount)


def _unit(wish: Wish, index: int, chosen: Sequence[WorkerOffer]) -> Unit:
    named = [chosen[(index + i) % len(chosen)] for i in range(wish.redundancy)]
    return Unit(
        kind=WorkKind.INFER,
        model=wish.model,
        stages=wish.stages,
        stage=index,
        first=0,
        count=len(wish.batch_rows),
        needed=NEEDED,
        price_per_row=max(offer.price_per_row for offer in named),
        rates=None,
        workers=tuple(offer.worker for offer in named),
    )


def _against_wish(
    manifest: ModelManifest, shards: Sequence[Shard], wish: Wish
) -> Sequence[PlanRefused]:
    reasons: list[PlanRefused] = []
    if [shard.index for shard in shards] != list(range(wish.stages)):
        exist = sorted({shard.stages for shard in manifest.shards})
        reasons.append(
            NoCutForK(
                f"{manifest.name} is not cut into {wish.stages} stages, it is into "
                f"{', '.join(map(str, exist))}",
                value=wish.stages,
                limit=tuple(exist),
                hint=f"ask for {exist[0]} stages, or prepare the model with more cuts",
            )
        )
    reasons += [
        NoCutForK(
            f"stage {shard.index} of {wish.stages} has {len(shard.outputs)} outputs, a chain of "
            "receipts needs 1 between stages",
            value=len(shard.outputs),
            limit=1,
            hint="ask for 1 stage",
        )
        for shard in shards[:-1]
        if len(shard.outputs) != 1
    ]
    batches_max = unit_batches_max(wish.redundancy)
    if len(wish.batch_rows) > batches_max:
        reasons.append(
            TooManyBatches(
                f"{len(wish.batch_rows)} micro-batches, at most {batches_max} fit a receipt",
                value=len(wish.batch_rows),
                limit=batches_max,
                hint="put more rows into a micro-batch, or send several jobs",
            )
        )
    needed = SETTLE_MS + wish.estimate_ms
    if wish.time_left_ms < needed:
        reasons.append(
            DeadlineImpossible(
                f"{wish.time_left_ms} ms until the deadline, work and settlement need {needed} ms",
                value=wish.time_left_ms,
                limit=needed,
                hint="set a later deadline",
            )
        )
    return reasons


def _too_few(
    manifest: ModelManifest,
    offers: Sequence[WorkerOffer],
    able: Sequence[WorkerOffer],
    wish: Wish,
) -> PlanRefused:
    others = sorted({offer.runtime for offer in offers} - {manifest.compute.runtime})
    if len(offers) >= wish.redundancy > len(able):
        return RuntimeMismatch(
            f"{len(able)} workers run {manifest.compute.runtime}, {wish.redundancy} are needed; "
            f"others run {', '.join(others)}",
            value=tuple(others),
            limit=manifest.compute.runtime,
            hint="install the same version of PRSM on the workers",
        )
    free = sum(offer.slots_free > 0 for offer in able)
    return TooFewPeers(
        f"{free} workers are free, {wish.redundancy} opinions need as many",
        value=free,
        limit=wish.redundancy,
        hint="connect more workers, or wait until they are free",
    )
