"""Handlers of serve_, model_health and model_rollback.

Knows: serving, names, the outbox. Must not know: transports, how a request is answered.
"""

from typing import Final, Literal

import trio

from prsm.consensus.ledger.releases import STABLE
from prsm.node.api.intents import tx_text
from prsm.node.api.work import parse_tensor, tensor_text
from prsm.node.chain.driver import Driver
from prsm.node.chain.outbox import Outbox
from prsm.node.clock import utc_text
from prsm.node.inference.serving.health import Hour, Service
from prsm.node.inference.serving.service import Served, ServeRequest, Serving
from prsm.node.inference.serving.tab import Tab, TabState
from prsm.node.models import Models
from prsm.node.models.naming import channel_key, subject_of
from prsm.node.rpc.dispatch import Handler
from prsm.node.rpc.errors import CallTimeout
from prsm.node.rpc.methods import serving as api
from prsm.node.rpc.spec import Caller, NoParams
from prsm.protocol.errors import PrsmError
from prsm.protocol.ids import address_text, parse_hex
from prsm.protocol.transactions.payloads import SET_CHANNEL
from prsm.protocol.transactions.registry import SetChannel
from prsm.storage.cid import decode_cid
from prsm.storage.errors import NotFound

_State = Literal["opening", "open", "closing", "settled", "failed"]
_STATES: Final[dict[TabState, _State]] = {
    TabState.OPENING: "opening",
    TabState.OPEN: "open",
    TabState.CLOSING: "closing",
    TabState.SETTLED: "settled",
    TabState.FAILED: "failed",
}


class ServingApi:
    """Answers about serving."""

    def __init__(self, serving: Serving, models: Models, driver: Driver, outbox: Outbox) -> None:
        self._serving = serving
        self._models = models
        self._driver = driver
        self._outbox = outbox

    def handlers(self) -> dict[str, Handler]:
        """Method name -> handler."""
        return {
            "serve_run": self.run,
            "serve_warm": self.warm,
            "serve_list": self.list_tabs,
            "serve_close": self.close,
            "model_getHealth": self.health,
            "model_rollback": self.rollback,
        }

    async def run(self, params: api.ServeParams, caller: Caller) -> api.ServedRows:
        """The outputs of a small request; a client that hangs up ends the work for it."""
        request = ServeRequest(
            ref=params.model,
            inputs=tuple(parse_tensor(given) for given in params.inputs or ()),
            texts=params.texts or (),
            opinions=params.opinions,
            price_cap=None if params.max_price is None else int(params.max_price),
            tenant=(params.tenant or caller.name).encode()[:32],
            is_fresh=params.fresh,
        )
        served: Served | None = None
        failure: PrsmError = CallTimeout(
            f"no answer within {params.wait_ms} ms; the workers were told to stop"
        )
        with trio.move_on_after(params.wait_ms / 1000):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_end_with, caller, nursery.cancel_scope)
                try:
                    served = await self._serving.ask(request)
                except PrsmError as error:  # out of the nursery it would be a group
                    failure = error
                nursery.cancel_scope.cancel()
        if served is None:
            raise failure
        return api.ServedRows(
            model=str(decode_cid(served.model)),
            rows=served.outputs[0].head.shape[0],
            batches=served.batches,
            cached=served.cached,
            workers=tuple(map(address_text, served.workers)),
            tabs=tuple(map(address_text, served.tabs)),
            outputs=tuple(map(tensor_text, served.outputs)),
            price=str(served.price),
            tokens=served.tokens,
        )

    async def warm(self, params: api.WarmParams, _caller: Caller) -> api.Warmed:
        """Open a tab before somebody asks."""
        model = await self._serving.warm(params.model, rows=params.rows, opinions=params.opinions)
        return api.Warmed(str(decode_cid(model)))

    async def list_tabs(self, _params: NoParams, _caller: Caller) -> api.ServingState:
        """Tabs and lines."""
        answers, turnstile = self._serving.answers, self._serving.turnstile
        return api.ServingState(
            items=tuple(_tab(tab) for tab in self._serving.tabs.list()),
            at_work=turnstile.inside,
            waiting=turnstile.waiting,
            cache_answers=len(answers),
            cache_bytes=answers.size,
            cache_hits=answers.hits,
            cache_misses=answers.misses,
        )

    async def close(self, params: api.TabParams, _caller: Caller) -> api.TabInfo:
        """Close a tab."""
        return _tab(self._serving.tabs.close(parse_hex(params.tab_id, size=32, what="tab id")))

    async def health(self, params: api.HealthParams, _caller: Caller) -> api.ModelHealth:
        """What this node saw of those who serve a model."""
        model = None
        if params.model is not None:
            model = (await self._models.find(params.model)).cid.raw
        now_ms = self._driver.clock.wall_ms()
        book = self._serving.health
        return api.ModelHealth(
            tuple(
                _service(one, is_out=book.is_out(one.model, one.worker, now_ms=now_ms))
                for one in book.list(model)
            )
        )

    async def rollback(self, params: api.RollbackParams, _caller: Caller) -> api.RolledBack:
        """Point a channel to the version before, or to a named one."""
        before, after = self._former(params)
        payload = SetChannel(params.name, params.channel, after)
        sent = await self._outbox.place(
            *(channel_key(params.name, params.channel), SET_CHANNEL, payload),
            subject=subject_of(params.name),
            signer=params.key,
        )
        return api.RolledBack(tx_text(sent), params.channel, before, after, sent.queued)

    def _former(self, params: api.RollbackParams) -> tuple[str, str]:
        """Version the channel has now, and the one it gets.

        Raises:
            NotFound: no such channel, no version before it, or not that version.
        """
        view = self._driver.ledger.view
        now = view.channels(params.name).get(params.channel)
        if now is None and params.channel == STABLE:
            now = view.resolve(params.name).semver  # what the bare name means without it
        if now is None:
            raise NotFound(
                f"{params.name} has no channel {params.channel}",
                hint=f"see: prsm model versions {params.name}",
            )
        versions = [r.semver for r in view.releases(params.name) if not r.is_yanked]
        known = [r.semver for r in view.releases(params.name)]
        earlier = [one for one in versions if known.index(one) < known.index(now)]
        wanted = params.to or (earlier[-1] if earlier else None)
        if wanted is None or wanted not in versions:
            raise NotFound(
                f"{params.name}@{now} has no former version"
                if params.to is None
                else f"{params.name} has no version {params.to} that is not withdrawn",
                hint=f"see: prsm model versions {params.name}",
            )
        return now, wanted


async def _end_with(caller: Caller, scope: trio.CancelScope) -> None:
    """Give the request up when its client hangs up."""
    if caller.wait_gone is not None:
        await caller.wait_gone()
        scope.cancel()


def _tab(tab: Tab) -> api.TabInfo:
    return api.TabInfo(
        tab_id=address_text(tab.job),
        model=str(decode_cid(tab.kind.model)),
        state=_STATES[tab.state],
        rows=tab.kind.rows,
        opinions=tab.kind.opinions,
        slots=len(tab.batch_rows),
        used=tab.used,
        answered=len(tab.answered),
        under_way=tab.under_way,
        locked=str(tab.amount),
        price_per_row=str(tab.price_per_row),
        workers=tuple(address_text(offer.worker) for offer in tab.offers),
        lost=tuple(map(address_text, tab.lost)),
        why="" if tab.error is None else tab.error.what,
    )


def _service(service: Service, *, is_out: bool) -> api.ServiceHealth:
    state: Literal["well", "failing", "left_out"] = "failing" if service.in_row else "well"
    return api.ServiceHealth(
        model=str(decode_cid(service.model)),
        worker=address_text(service.worker),
        state="left_out" if is_out else state,
        done=service.done,
        failed=service.failed,
        success_millionths=round(service.success_percent * 10_000),
        rows=service.rows,
        p50_us=round(service.quantile_ms(50) * 1000),
        p99_us=round(service.quantile_ms(99) * 1000),
        probes_done=service.probes_done,
        probes_failed=service.probes_failed,
        probed=utc_text(service.probed_ms) if service.probed_ms else None,
        errors=tuple(
            api.ServiceFault(utc_text(one.at_ms), one.reason, one.what) for one in service.errors
        ),
        hours=tuple(_hour(hour) for hour in service.hours),
    )


def _hour(hour: Hour) -> api.ServiceHour:
    mean_ms = hour.total_ms // hour.done if hour.done else 0
    return api.ServiceHour(utc_text(hour.began_ms), hour.done, hour.failed, mean_ms)
