"""Who is named for each stage of a generation: one route, laid over the workers that are there.

Pure. Must not know locks, or what became of an earlier route. Source: docs/spec/work.md,
"Generation".
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from prsm.node.inference.refusals import DoesNotFit, RuntimeMismatch, SessionQuota, TooFewPeers
from prsm.node.inference.wishes import WorkerOffer
from prsm.protocol.errors import LocalError
from prsm.protocol.generating import KvShape, Sampling
from prsm.protocol.ids import PeerId, format_ftns
from prsm.protocol.receipts import WorkKind
from prsm.protocol.transactions.payloads import Unit


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a generation needs of workers.

    Attributes:
        model: CID of the manifest.
        runtime: of the model; workers of another compute other bits.
        stages: of the whole model.
        first: the first stage that is not done at home.
        rows: of each batch: the prompt, then single steps.
        shapes: of the stages, all of them.
        rooms: bytes a child needs to load each stage, the cache of a session not counted.
        sampling: how the last stage chooses.
        price_cap: micro-FTNS that all locks together may hold, None for no bound.
        deadline_ms: block time from the lock on.
        tenant: for whom.
    """

    model: bytes
    runtime: str
    stages: int
    first: int
    rows: tuple[int, ...]
    shapes: tuple[KvShape, ...]
    rooms: tuple[int, ...]
    sampling: Sampling
    price_cap: int | None
    deadline_ms: int
    tenant: bytes

    @property
    def positions(self) -> int:
        """Of the whole generation."""
        return sum(self.rows)

    def cache_bytes(self, stage: int) -> int:
        """What a session of a stage sets aside."""
        return self.positions * self.shapes[stage].bytes_per_position

    def fits(self, offer: WorkerOffer, stage: int) -> bool:
        """Has one child of a worker room for a stage and its session, as far as it said?"""
        needed = self.rooms[stage] + self.cache_bytes(stage)
        return not offer.memory_bytes or needed <= offer.memory_bytes


@dataclass(frozen=True, slots=True)
class Route:
    """A locked job: unit i is stage `first + i`."""

    job: bytes
    units: tuple[Unit, ...]
    peers: dict[bytes, PeerId]
    rows: tuple[int, ...]

    @property
    def amount(self) -> int:
        """Micro-FTNS the escrow holds."""
        return sum(unit.price_per_row for unit in self.units) * sum(self.rows)

    def worker_of(self, stage: int) -> bytes | None:
        """Account that does a stage; None where this route does not do it."""
        return next((unit.workers[0] for unit in self.units if unit.stage == stage), None)


def lay_out(
    offers: Sequence[WorkerOffer],
    wanted: Wanted,
    *,
    job: bytes,
    only: range,
    beside: Route | None = None,
    failed: Collection[PeerId] = (),
) -> Route:
    """Lay stages over workers: holders of the model first, then the cheapest, then by account.

    Nobody compares a stage, so who is paid for it has pledged enough, for all it does of them;
    for what it does beside, too, where somebody has.

    Args:
        offers: those that may be taken.
        wanted: what is needed.
        job: id of the job.
        only: the stages that need somebody.
        beside: a route that gets every stage done by another worker, if it can be by one that
            does no stage of it.
        failed: who failed or refused lately, and is taken where nobody else is.

    Raises:
        TooFewPeers, RuntimeMismatch, DoesNotFit, SessionQuota: nobody may be taken.
    """
    able = [offer for offer in offers if offer.runtime == wanted.runtime]
    rows = sum(wanted.rows)
    free = [o for o in able if o.slots_free > 0 and o.is_bonded(o.price_per_row * rows)]
    if not free:
        raise _nobody(offers, able, wanted)
    busy = beside.peers if beside is not None else {}

    def order(offer: WorkerOffer) -> tuple[bool, bool, bool, int, bytes]:
        is_far = wanted.model not in offer.models
        is_busy = offer.worker in busy
        return (offer.peer in failed, is_busy, is_far, offer.price_per_row, offer.worker)

    best = sorted(free, key=order)
    units: list[Unit] = []
    peers = {}
    owed: Counter[bytes] = Counter()
    more = Counter(unit.workers[0] for unit in (beside.units if beside is not None else ()))
    for stage in only:
        able = _able(best, wanted, stage, beside)
        at = (stage - wanted.first) % len(able)
        turn = (*able[at:], *able[:at])
        offer = _covered(turn, owed + more, rows) or _covered(turn, owed, rows)
        if offer is None:
            raise TooFewPeers(
                f"the pledges of those who are free cover {len(units)} of {len(only)} stages",
                value=len(units),
                limit=len(only),
                hint="connect workers, ask for fewer tokens, or generate at home: --local",
            )
        owed[offer.worker] += 1
        peers[offer.worker] = offer.peer
        units.append(_unit(offer, wanted, stage))
    return Route(job, tuple(units), peers, wanted.rows)


def _covered(turn: Sequence[WorkerOffer], stages: Counter[bytes], rows: int) -> WorkerOffer | None:
    """The first whose pledge covers one stage more than it does already."""
    for offer in turn:
        if offer.is_bonded(offer.price_per_row * rows * (stages[offer.worker] + 1)):
            return offer
    return None


def _able(
    best: Sequence[WorkerOffer], wanted: Wanted, stage: int, beside: Route | None
) -> list[WorkerOffer]:
    roomy = [offer for offer in best if wanted.fits(offer, stage)]
    if not roomy:
        raise _no_room(best, wanted, stage)
    found = roomy if beside is None else [o for o in roomy if o.worker != beside.worker_of(stage)]
    if not found:
        raise TooFewPeers(
            f"nobody else does stage {stage} of {wanted.stages}",
            value=1,
            limit=2,
            hint="connect workers, or wait until they are free",
        )
    return found


def _unit(offer: WorkerOffer, wanted: Wanted, stage: int) -> Unit:
    return Unit(
        kind=WorkKind.GENERATE,
        model=wanted.model,
        stages=wanted.stages,
        stage=stage,
        first=0,
        count=len(wanted.rows),
        needed=1,
        price_per_row=offer.price_per_row,
        rates=None,
        workers=(offer.worker,),
    )


def _nobody(
    offers: Sequence[WorkerOffer], able: Sequence[WorkerOffer], wanted: Wanted
) -> LocalError:
    others = sorted({offer.runtime for offer in offers if offer.runtime} - {wanted.runtime})
    if others and not able:
        return RuntimeMismatch(
            f"no worker runs {wanted.runtime}; others run {', '.join(others)}",
            value=tuple(others),
            limit=wanted.runtime,
            hint="install the same version of PRSM on the workers",
        )
    if any(offer.slots_free > 0 for offer in able):
        most = max(offer.bonded_for or 0 for offer in able)
        price = min(offer.price_per_row for offer in able) * sum(wanted.rows)
        return TooFewPeers(
            f"no worker has pledged enough for a stage of {format_ftns(price)} FTNS, pledges "
            f"cover {format_ftns(most)}",
            value=most,
            limit=price,
            hint="ask for fewer tokens, or generate at home: --local",
        )
    return TooFewPeers(
        f"{len(offers)} workers answered, none is free",
        value=0,
        limit=1,
        hint="connect workers, wait until they are free, or generate at home: --local",
    )


def _no_room(free: Sequence[WorkerOffer], wanted: Wanted, stage: int) -> LocalError:
    most, needed = max(offer.memory_bytes for offer in free), wanted.rooms[stage]
    if needed > most:
        return DoesNotFit(
            f"stage {stage} of {wanted.stages} needs {needed} bytes in one worker, "
            f"the largest gives {most}",
            value=needed,
            limit=most,
            hint="ask for more stages, or generate at home: --local",
        )
    cache = wanted.cache_bytes(stage)
    return SessionQuota(
        f"the session cache of stage {stage} takes {cache} bytes, beside the shard there are "
        f"{most - needed}",
        value=cache,
        limit=most - needed,
        hint="ask for fewer tokens, or for more stages",
    )
