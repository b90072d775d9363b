"""Handlers of storage_ about the outbox: what waits for the ledger, and taking it back.

Knows: the outbox. Must not know: transports, what an intent is for.
"""

from prsm.node.api.ledger import kind_name
from prsm.node.chain.intents import Intent
from prsm.node.chain.outbox import Outbox, Sent
from prsm.node.clock import utc_text
from prsm.node.rpc.dispatch import Handler
from prsm.node.rpc.methods import intents as api
from prsm.node.rpc.spec import Caller, NoParams
from prsm.protocol.ids import address_text


class IntentsApi:
    """Answers about intents."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def handlers(self) -> dict[str, Handler]:
        """Method name -> handler."""
        return {"storage_listIntents": self.list, "storage_cancelIntent": self.cancel}

    async def list(self, _params: NoParams, _caller: Caller) -> api.Intents:
        """What waits, and what was over last."""
        waiting = self._outbox.intents()
        here, of_all = self._outbox.linked()
        return api.Intents(
            waiting=len(waiting),
            validators_linked=here,
            validators=of_all,
            items=tuple(self._row(each) for each in (*waiting, *self._outbox.ended())),
        )

    async def cancel(self, params: api.CancelIntentParams, _caller: Caller) -> api.CancelledIntent:
        """Take one back."""
        gone = await self._outbox.cancel(params.key)
        return api.CancelledIntent(gone.key, _hex(gone.tx_id))

    def _row(self, intent: Intent) -> api.IntentRow:
        return api.IntentRow(
            key=intent.key,
            kind=kind_name(intent.kind),
            signer=intent.signer,
            made=utc_text(intent.made_ms),
            until=utc_text(intent.until_ms) if intent.until_ms else "",
            tx_id=_hex(intent.tx_id),
            waits_for=self._outbox.waits_for(intent),
            how=intent.how,
            ended=utc_text(intent.ended_ms) if intent.ended_ms else "",
        )


def tx_text(sent: Sent | None) -> str | None:
    """The transaction of an order, for answers."""
    return None if sent is None or sent.tx_id is None else address_text(sent.tx_id)


def _hex(tx_id: bytes) -> str | None:
    return address_text(tx_id) if tx_id else None
