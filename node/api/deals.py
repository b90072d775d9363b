"""Handlers of storage_ about deals: files somebody is paid to keep.

Knows: custody. Must not know: transports, how anything is proven.
"""

from typing import Final, Literal

from prsm.consensus.ledger.custody_records import DealStatus
from prsm.node.api.intents import tx_text
from prsm.node.chain.outbox import Sent
from prsm.node.replication.custody import Kept, Offer
from prsm.node.replication.upkeep import Upkeep
from prsm.node.rpc.dispatch import Handler
from prsm.node.rpc.methods import deals as api
from prsm.node.rpc.spec import Caller
from prsm.protocol.ids import address_text, parse_hex
from prsm.storage.cid import decode_cid, parse_cid

_Status = Literal["offered", "active", "ended", "broken", "withdrawn"]
_STATUSES: Final[dict[DealStatus, _Status]] = {
    DealStatus.OFFERED: "offered",
    DealStatus.ACTIVE: "active",
    DealStatus.ENDED: "ended",
    DealStatus.BROKEN: "broken",
    DealStatus.WITHDRAWN: "withdrawn",
}


class DealsApi:
    """Answers about deals."""

    def __init__(self, upkeep: Upkeep) -> None:
        self._upkeep = upkeep

    def handlers(self) -> dict[str, Handler]:
        """Method name -> handler."""
        return {
            "storage_listDeals": self.list,
            "storage_offerDeal": self.offer,
            "storage_acceptDeal": self.accept,
            "storage_releaseDeal": self.release,
        }

    async def list(self, params: api.DealsParams, _caller: Caller) -> api.Deals:
        """Deals of the ledger."""
        kept = self._upkeep.custody.deals(mine=params.mine)
        return api.Deals(items=tuple(_info(one) for one in kept))

    async def offer(self, params: api.OfferParams, _caller: Caller) -> api.Offered:
        """Offer money for keeping a file."""
        collateral = None if params.collateral is None else int(params.collateral)
        deal, tx_id = await self._upkeep.custody.offer(
            Offer(
                root=parse_cid(params.cid),
                holder=parse_hex(params.holder, size=32, what="holder"),
                price=int(params.price),
                rounds=params.rounds,
                collateral=collateral,
            )
        )
        return api.Offered(address_text(deal), address_text(tx_id))

    async def accept(self, params: api.DealParams, _caller: Caller) -> api.DealSent:
        """Take an offer."""
        deal = parse_hex(params.deal, size=32, what="deal")
        return _sent(await self._upkeep.custody.accept(deal))

    async def release(self, params: api.DealParams, _caller: Caller) -> api.DealSent:
        """Settle a deal, or withdraw an offer."""
        deal = parse_hex(params.deal, size=32, what="deal")
        return _sent(await self._upkeep.custody.release(deal))


def _sent(sent: Sent) -> api.DealSent:
    return api.DealSent(tx_text(sent), sent.queued)


def _info(kept: Kept) -> api.DealInfo:
    deal, terms = kept.deal, kept.deal.terms
    return api.DealInfo(
        deal=address_text(deal.deal),
        status=_STATUSES[deal.status],
        cid=str(decode_cid(terms.root)),
        size_bytes=terms.size,
        client=address_text(deal.client),
        holder=address_text(terms.holder),
        price=str(terms.price),
        rounds=terms.rounds,
        proven=deal.proven,
        missed=deal.missed,
        paid=str(deal.paid),
        slashed=str(deal.slashed),
        locked=str(deal.locked),
        collateral=str(deal.collateral),
        is_holder=kept.is_holder,
        is_client=kept.is_client,
        why=kept.why,
    )
