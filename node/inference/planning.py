"""A plan of a job of ours from the network as it is now: offers, quotes, measured ways.

Nothing is locked here. Must not know how a job is run. Source: docs/spec/work.md, "Planning".
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from prsm.node.clock import Clock
from prsm.node.inference.batches import BatchPlan
from prsm.node.inference.capacity import ask_all
from prsm.node.inference.job import JobRequest
from prsm.node.inference.links import Links
from prsm.node.inference.market import Market
from prsm.node.inference.planner import plan
from prsm.node.inference.probing import probe_peers
from prsm.node.inference.quotes import Asked, ask_quotes
from prsm.node.inference.refusals import (
    ClassMissing,
    DoesNotFit,
    PriceOverCap,
    RuntimeMismatch,
    TooFewPeers,
)
from prsm.node.inference.wishes import Plan, Refused, ShardKey, Wish, WorkerOffer
from prsm.protocol.messages.models import ModelManifest
from prsm.protocol.messages.quotes import Quote

ROUNDS_MAX: Final = 3  # a quote above the capacity's price changes the plan, which asks others

# What more workers could change; a model that is not cut so, or an operator, they do not.
SCARCE: Final = (TooFewPeers, DoesNotFit, ClassMissing, RuntimeMismatch, PriceOverCap)

log = logging.getLogger(__name__)


def wish_of(request: JobRequest, batches: BatchPlan) -> Wish:
    """What a job asks of a plan."""
    sizes: dict[str, int] = {}
    for batch in batches.batches:
        for place, tensor in enumerate(batch):
            for axis, size in enumerate(tensor.head.shape[1:], 1):
                name = f"{place}.{axis}"
                sizes[name] = max(size, sizes.get(name, 0))
    return Wish(
        model=request.model,
        batch_rows=batches.counts,
        stages=request.stages,
        spread=request.spread,
        redundancy=request.redundancy,
        home_stages=request.home_stages,
        spares=request.spares,
        price_cap=request.price_cap,
        time_left_ms=request.deadline_ms,
        sizes=sizes,
        window=request.window,
        kind=request.kind,
        only=request.only,
    )


class Planning:
    """Makes plans for jobs of ours."""

    def __init__(self, links: Links, clock: Clock, market: Market) -> None:
        self._links, self._clock, self.market = links, clock, market

    async def offers(self, model: bytes) -> tuple[WorkerOffer, ...]:
        """Who could work now, with what was measured; who failed lately is left out."""
        links, now_ms = self._links, self.market.now_ms()
        found = await ask_all(links.network, links.chain, links.verifier)
        return tuple(
            self._measured(offer, model)
            for offer in found
            if not self.market.bans.is_out(offer.peer, now_ms)
        )

    async def plan(self, manifest: ModelManifest, wish: Wish) -> Plan:
        """Ask, measure, plan; then have the named workers bind themselves to their prices.

        Raises:
            PlanRefused: the first reason against it; the log has the others.
        """
        wish = replace(wish, sizes=_named_sizes(manifest, wish))
        offers = await self._probed(wish)
        found = plan(manifest, offers, wish)
        for _ in range(ROUNDS_MAX):
            if not isinstance(found, Refused) or not await self._recruited(found, manifest, wish):
                break
            offers = await self._probed(wish)
            found = plan(manifest, offers, wish)
        for _ in range(ROUNDS_MAX):
            if isinstance(found, Refused):
                break
            quoted = await self._quoted(found, offers, wish)
            if quoted == offers:
                break
            offers = quoted
            found = plan(manifest, offers, wish)
        if isinstance(found, Refused):
            for reason in found.reasons[1:]:
                log.info("no plan: also %s", reason.what)
            raise found.reasons[0]
        return found

    def quote_for(self, worker: bytes, asked: Asked) -> Quote | None:
        """A quote of that worker that still holds."""
        return self.market.quotes.find(worker, asked, time_ms=self._links.chain.block_time_ms())

    async def ask_quotes(self, offers: Sequence[WorkerOffer], asked: Asked) -> list[Quote]:
        """Ask workers for binding prices and keep them."""
        links = self._links
        peers = [offer.peer for offer in offers]
        found = await ask_quotes(links.network, links.chain, links.verifier, peers, asked)
        accounts = {offer.peer: offer.worker for offer in offers}
        kept = [quote for peer, quote in found.items() if quote.worker == accounts[peer]]
        for quote in kept:
            self.market.quotes.keep(quote)
        return kept

    async def _probed(self, wish: Wish) -> tuple[WorkerOffer, ...]:
        offers = await self.offers(wish.model)
        if wish.stages == 1:
            return offers
        network = self._links.network
        await probe_peers(network, self._clock, self.market.gauges, [o.peer for o in offers])
        return tuple(self._measured(offer, wish.model) for offer in offers)

    async def _recruited(self, found: Refused, manifest: ModelManifest, wish: Wish) -> bool:
        """Whether workers that were only heard of are linked now, where more could help."""
        if not isinstance(found.reasons[0], SCARCE):
            return False
        return await self.market.recruit(wish.model, manifest.compute.runtime, wish.only)

    async def _quoted(
        self, found: Plan, offers: tuple[WorkerOffer, ...], wish: Wish
    ) -> tuple[WorkerOffer, ...]:
        """The offers with the prices their workers are bound to; free work needs no quote."""
        named = [o for o in offers if o.worker in found.peers and o.price_per_row]
        asked = Asked(wish.model, found.shards[0].stages, wish.rows)
        missing = [o for o in named if self.quote_for(o.worker, asked) is None]
        if missing:
            await self.ask_quotes(missing, asked)
        bound: dict[bytes, int] = {}
        for offer in named:
            quote = self.quote_for(offer.worker, asked)
            if quote is not None:
                bound[offer.worker] = quote.price_per_row
        return tuple(
            replace(o, price_per_row=bound[o.worker]) if o.worker in bound else o for o in offers
        )

    def _measured(self, offer: WorkerOffer, model: bytes) -> WorkerOffer:
        gauges = self.market.gauges
        row_ms: dict[ShardKey, float] = dict(offer.row_ms)
        row_ms.update(gauges.rows_of(offer.peer, model))
        return replace(
            offer,
            row_ms=row_ms,
            load_ms=gauges.loads_of(offer.peer, model),
            bytes_per_s=gauges.bytes_per_s(offer.peer),
            bonded_for=self._links.chain.bonded_for(offer.worker),
            refused=gauges.refusal(offer.peer, model),
        )


def _named_sizes(manifest: ModelManifest, wish: Wish) -> dict[str, int]:
    """Sizes of the free axes by the names the io table gives them."""
    whole = next((shard for shard in manifest.shards if shard.stages == 1), None)
    named: dict[str, int] = {}
    for place, spec in enumerate(whole.inputs if whole else ()):
        for axis, dim in enumerate(spec.shape):
            size = wish.sizes.get(f"{place}.{axis}")
            if isinstance(dim, str) and axis and size is not None:
                named[dim] = max(size, named.get(dim, 0))
    return named or dict(wish.sizes)
