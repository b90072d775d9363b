"""Handlers of plans and quotes: what a job would be, before anything is locked.

Knows: planning and models. Must not know: transports, how a job is run.
"""

from collections.abc import Callable
from typing import Final

from prsm.consensus.ledger.fees import fee_min, operations_of
from prsm.node.api.work import WorkApi, request_of
from prsm.node.chain.driver import Driver
from prsm.node.chain.proofs import Proofs
from prsm.node.clock import utc_text
from prsm.node.inference.estimate import memory_needed
from prsm.node.inference.job import JobRequest
from prsm.node.inference.jobs import Jobs
from prsm.node.inference.planning import Planning
from prsm.node.inference.quotes import Asked
from prsm.node.inference.wishes import Mode, Plan, Wish
from prsm.node.models import Models
from prsm.node.rpc.dispatch import Handler
from prsm.node.rpc.methods import offers as api
from prsm.node.rpc.methods.work import RunParams
from prsm.node.rpc.spec import Caller
from prsm.protocol.codec import encode
from prsm.protocol.genesis import Parameters
from prsm.protocol.ids import address_text
from prsm.protocol.transactions.payloads import Lock
from prsm.storage.cid import decode_cid

# Of transactions of a job as they are sent, measured: what a receipt names differs a little.
_ENVELOPE_BYTES: Final = 160
_RECEIPT_BYTES: Final = 340


def work_handlers(models: Models, jobs: Jobs, driver: Driver, proofs: Proofs) -> dict[str, Handler]:
    """Method name -> handler, of jobs and of what they would be."""
    offers = OffersApi(models, jobs, jobs.planning, lambda: driver.ledger.parameters)
    return {**WorkApi(models, jobs, driver, proofs).handlers(), **offers.handlers()}


class OffersApi:
    """Answers about what could be done."""

    def __init__(
        self,
        models: Models,
        jobs: Jobs,
        planning: Planning,
        parameters: Callable[[], Parameters],
    ) -> None:
        self._models, self._jobs, self._planning = models, jobs, planning
        self._parameters = parameters

    def handlers(self) -> dict[str, Handler]:
        """Method name -> handler."""
        return {
            "infer_plan": self.plan,
            "infer_quote": self.quote,
            "model_shard": self.shard,
        }

    async def plan(self, params: RunParams, _caller: Caller) -> api.JobPlan:
        """What a job would be."""
        known = await self._models.find(params.model)
        found, counts = await self._jobs.dry_run(request_of(params, known.cid.raw))
        return _plan(found, known.cid.raw, counts, self._parameters())

    async def quote(self, params: api.QuoteParams, _caller: Caller) -> api.QuoteList:
        """Binding prices of the workers of now, the cheapest first."""
        known = await self._models.find(params.model)
        asked = Asked(known.cid.raw, params.stages, params.rows)
        offers = await self._planning.offers(known.cid.raw)
        peers = {offer.worker: offer.peer for offer in offers}
        quotes = await self._planning.ask_quotes(offers, asked)
        return api.QuoteList(
            model=str(known.cid),
            stages=params.stages,
            items=tuple(
                api.QuoteInfo(
                    peer_id=peers[quote.worker],
                    account=address_text(quote.worker),
                    price_per_row=str(quote.price_per_row),
                    amount=str(quote.price_per_row * params.rows * params.stages),
                    rows=quote.rows,
                    valid_until=utc_text(quote.valid_until_ms),
                )
                for quote in sorted(quotes, key=lambda q: (q.price_per_row, q.worker))
            ),
        )

    async def shard(self, params: api.ShardParams, _caller: Caller) -> api.ShardList:
        """The splits of a model, and a plan over the peers of now."""
        known = await self._models.find(params.ref)
        cid, manifest = known.cid.raw, known.manifest
        planned = None
        if params.plan:
            size = JobRequest(cid).rows_per_batch
            full, rest = divmod(params.rows, size)
            counts = (size,) * full + ((rest,) if rest else ())
            wish = Wish(
                cid,
                counts,
                stages=params.stages,
                spread=None,
                redundancy=params.redundancy,
            )
            found = await self._planning.plan(manifest, wish)
            planned = _plan(found, cid, counts, self._parameters())
        return api.ShardList(
            model=str(known.cid),
            items=tuple(
                api.ShardInfo(
                    stages=shard.stages,
                    stage=shard.index,
                    weight_bytes=shard.weight_bytes,
                    weight_flops=shard.weight_flops,
                    needs_bytes=memory_needed(shard),
                    boundary=shard.inputs[0].name,
                )
                for shard in sorted(manifest.shards, key=lambda s: (s.stages, s.index))
                if params.stages in {None, shard.stages}
            ),
            plan=planned,
        )


def _plan(found: Plan, model: bytes, counts: tuple[int, ...], prices: Parameters) -> api.JobPlan:
    stages = found.units[0].stages
    return api.JobPlan(
        model=str(decode_cid(model)),
        mode=Mode.REPLICAS.value if stages == 1 else Mode.PIPELINE.value,
        rows=sum(counts),
        batches=len(counts),
        stages=stages,
        stages_here=len(found.home),
        amount=str(found.amount),
        reserve=str(found.amount - found.budget),
        spare=str(found.budget),
        fees=str(_fees(found, counts, prices)),
        one_machine_ms=_whole(found.why.one_machine_ms),
        plan_ms=_whole(found.why.plan_ms),
        because=found.why.because,
        units=tuple(
            api.PlannedUnit(
                stage=unit.stage,
                first=unit.first,
                batches=unit.count,
                rows=sum(counts[unit.first : unit.first + unit.count]),
                needed=unit.needed,
                price_per_row=str(unit.price_per_row),
                peers=tuple(found.peers[worker] for worker in unit.workers),
                accounts=tuple(address_text(worker) for worker in unit.workers),
            )
            for unit in found.units
        ),
        considered=tuple(
            api.ConsideredWay(
                mode=way.mode.value,
                stages=way.stages,
                spread=way.spread,
                workers=way.workers,
                amount=str(way.amount),
                estimate_ms=_whole(way.estimate_ms),
                why_not=way.why_not,
            )
            for way in found.why.considered
        ),
    )


def _fees(found: Plan, counts: tuple[int, ...], prices: Parameters) -> int:
    """About what the ledger asks for one lock, and for a settlement of each unit."""
    lock = Lock(
        job=bytes(32),
        tenant=b"",
        asset=0,
        parent=None,
        batch_rows=counts,
        units=found.units,
        budget=found.budget,
        shares=(),
        deadline_ms=2**41,
        is_open_ended=False,
    )
    fee: int = fee_min(
        prices,
        size_bytes=_ENVELOPE_BYTES + len(encode(lock)),
        operations=operations_of(lock),
    )
    for unit in found.units:
        size_bytes = _ENVELOPE_BYTES + unit.needed * _RECEIPT_BYTES
        fee += fee_min(prices, size_bytes=size_bytes, operations=unit.needed)
    return fee


def _whole(ms: float | None) -> int | None:
    return None if ms is None else round(ms)
