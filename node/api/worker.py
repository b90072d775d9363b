"""Handlers of worker_: the operator's side of work for others.

Knows: the offer, the claims, the account of what was paid. Must not know: how work is done.
"""

from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from prsm.node.clock import Clock, utc_text
from prsm.node.config.schema import WorkerConfig
from prsm.node.inference.claims import Claims
from prsm.node.inference.drain import Drain
from prsm.node.inference.earned import Earnings
from prsm.node.inference.executor import Executor
from prsm.node.inference.generate.worker import Sessions
from prsm.node.inference.workoffer import Said, WorkOffer
from prsm.node.rpc.dispatch import Handler
from prsm.node.rpc.errors import BadParams
from prsm.node.rpc.methods import worker as api
from prsm.node.rpc.spec import Caller, NoParams
from prsm.protocol.errors import Unsupported
from prsm.protocol.ids import address_text
from prsm.storage.cid import decode_cid
from prsm.storage.earnings import Ended

_DAY_MS: Final = 86_400_000
_OFF: Final = "executor.enabled is false"


@dataclass(frozen=True, slots=True)
class Bench:
    """What works for others, where a worker program runs."""

    offer: WorkOffer
    executor: Executor
    sessions: Sessions | None
    drain: Drain


class WorkerApi:
    """Answers about work for others.

    Args:
        bench: None where this node does no work for others.
        claims: what is not paid yet.
        earnings: what was.
        config: of the worker.
        clock: of the node.
    """

    def __init__(
        self,
        bench: Bench | None,
        claims: Claims,
        earnings: Earnings,
        config: WorkerConfig,
        clock: Clock,
    ) -> None:
        self._bench, self._claims, self._earnings = bench, claims, earnings
        self._config, self._clock = config, clock

    def handlers(self) -> dict[str, Handler]:
        """Method name -> handler."""
        return {
            "worker_getOffer": self.offer,
            "worker_setOffer": self.set_offer,
            "worker_pause": self.pause,
            "worker_drain": self.drain,
            "worker_resume": self.resume,
            "worker_getEarnings": self.earned,
        }

    async def offer(self, _params: NoParams, _caller: Caller) -> api.WorkOfferInfo:
        """What peers are offered now."""
        return self._shown()

    async def set_offer(self, params: api.SetOfferParams, _caller: Caller) -> api.WorkOfferInfo:
        """Another price, or other bounds."""

        def change(said: Said) -> Said:
            kept = Said(paused=said.paused) if params.as_configured else said
            return msgspec.structs.replace(
                kept,
                price=kept.price if params.price is None else int(params.price),
                units_max=kept.units_max if params.units_max is None else params.units_max,
            )

        await self._opened().offer.change(change)
        return self._shown()

    async def pause(self, _params: NoParams, _caller: Caller) -> api.WorkOfferInfo:
        """Nothing new."""
        offer = self._opened().offer
        await offer.change(lambda said: msgspec.structs.replace(said, paused=True))
        return self._shown()

    async def drain(self, params: api.DrainParams, _caller: Caller) -> api.WorkOfferInfo:
        """Nothing new, and an end of what is held."""
        grace_s = self._config.drain_s if params.grace_s is None else params.grace_s
        self._opened().drain.begin(grace_s)
        return self._shown()

    async def resume(self, _params: NoParams, _caller: Caller) -> api.WorkOfferInfo:
        """Work again."""
        bench = self._opened()
        offer = bench.offer
        bench.drain.resume()
        await offer.change(lambda said: msgspec.structs.replace(said, paused=False))
        return self._shown()

    async def earned(self, params: api.EarningsParams, _caller: Caller) -> api.WorkerEarnings:
        """Units that are over, newest first."""
        before = None
        if params.cursor:
            if not (params.cursor.isascii() and params.cursor.isdecimal()):
                raise BadParams("that cursor is of no page of this list", field="cursor")
            before = min(int(params.cursor), 2**62)
        since_ms = 0
        if params.days is not None:
            since_ms = max(1, self._clock.wall_ms() - params.days * _DAY_MS)
        page = await self._earnings.page(params.limit, before=before, since_ms=since_ms)
        sums = await self._earnings.sums(since_ms=since_ms)
        return api.WorkerEarnings(
            items=tuple(_unit(one) for _, one in page),
            sums=api.EarnedSums(sums.units, sums.rows, str(sums.paid), sums.wrong, sums.unpaid),
            next_cursor=str(page[-1][0]) if len(page) == params.limit else None,
        )

    def _opened(self) -> Bench:
        if self._bench is None:
            raise Unsupported(
                f"this node does no work for others: {_OFF}",
                hint="prsm config set executor.enabled true, then prsm restart",
            )
        return self._bench

    def _shown(self) -> api.WorkOfferInfo:
        unpaid = self._claims.unpaid
        owed = sum(one.price_per_row * one.measured.rows for one in unpaid)
        price = self._config.price_microftns
        info = api.WorkOfferInfo(
            state="off",
            why=_OFF,
            price=str(price),
            price_configured=str(price),
            units_max=0,
            units_max_configured=0,
            at_work=0,
            sessions=0,
            held=0,
            left_ms=0,
            waiting_ms=0,
            memory_bytes=0,
            bond=self._config.bond,
            unpaid_units=len(unpaid),
            unpaid=str(owed),
        )
        return info if self._bench is None else _with_bench(info, self._bench)


def _with_bench(info: api.WorkOfferInfo, bench: Bench) -> api.WorkOfferInfo:
    """The same with what the worker says of itself."""
    offer, standing = bench.offer, bench.executor.standing()
    return msgspec.structs.replace(
        info,
        state=_state(bench),
        why=offer.hindrance(),
        price=str(offer.terms.price_per_row),
        price_configured=str(offer.configured.price_per_row),
        units_max=offer.terms.units_max,
        units_max_configured=offer.configured.units_max,
        at_work=bench.executor.at_work,
        sessions=0 if bench.sessions is None else bench.sessions.count,
        held=bench.drain.held,
        left_ms=bench.drain.left_ms,
        waiting_ms=standing.waiting_ms,
        memory_bytes=standing.memory_bytes,
    )


def _state(bench: Bench) -> Literal["open", "held", "paused", "draining", "drained"]:
    if bench.drain.is_on:
        return "drained" if bench.drain.is_over else "draining"
    if bench.offer.said.paused:
        return "paused"
    return "held" if bench.offer.hindrance() else "open"


def _unit(ended: Ended) -> api.EarnedUnit:
    state: Literal["paid", "wrong", "unpaid"] = "paid" if ended.is_counted else "unpaid"
    return api.EarnedUnit(
        job_id=address_text(ended.job),
        unit=ended.unit,
        kind=ended.kind,
        state="wrong" if ended.wrong else state,
        model=str(decode_cid(ended.model)),
        requester=address_text(ended.requester) if ended.requester else None,
        rows=ended.rows,
        price_per_row=str(ended.price_per_row),
        paid=str(ended.paid),
        wrong_batches=ended.wrong,
        height=ended.height,
        time=utc_text(ended.time_ms),
    )
