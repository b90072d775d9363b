"""Handlers of chain_ about fees and holds: what the ledger asks, and what it keeps for whom.

Knows: the ledger, read only. Must not know: stores, transports.
"""

from collections.abc import Callable
from typing import Final, Literal

from prsm.consensus.ledger.apply import Ledger
from prsm.consensus.ledger.conditions import due
from prsm.consensus.ledger.fees import fee_min, operations_of, size_to_pay
from prsm.consensus.ledger.records import Held
from prsm.node.api.readable import BadDocument, readable_record, record_of
from prsm.node.callers.prices import Fees
from prsm.node.rpc.dispatch import Handler
from prsm.node.rpc.methods import ledger as api
from prsm.node.rpc.methods.wallet import SubmitParams
from prsm.node.rpc.spec import Caller
from prsm.protocol.codec import Record, encode
from prsm.protocol.errors import LocalError
from prsm.protocol.genesis import Parameters
from prsm.protocol.ids import address_text, parse_hex
from prsm.protocol.limits import INT_MAX, TRANSACTION_BYTES_MAX
from prsm.protocol.transactions.envelope import Transaction, decode_transaction
from prsm.protocol.transactions.payloads import PAYLOADS
from prsm.storage.errors import NotFound

_KINDS: Final = {cls.__name__: (number, cls) for number, cls in PAYLOADS.items()}


def kind_called(name: str) -> tuple[int, type[Record]]:
    """Number and payload of a transaction kind such as Transfer.

    Raises:
        BadDocument: there is none of that name.
    """
    found = _KINDS.get(name)
    if found is None:
        raise BadDocument(f"no transaction kind {name[:64]!r}", hint=f"one of {', '.join(_KINDS)}")
    return found


def kind_name(number: int) -> str:
    """Name of a transaction kind."""
    return next(name for name, (found, _) in _KINDS.items() if found == number)


def fees_by(parameters: Callable[[], Parameters]) -> Fees:
    """What transactions cost, by the function that admission and the wallet use."""

    def of_size(size_bytes: int) -> int:
        return fee_min(parameters(), size_bytes=size_bytes, operations=1)

    def of_wish(size_bytes: int, wish: SubmitParams) -> int:
        operations = operations_of(record_of(wish.payload, kind_called(wish.kind)[1]))
        return fee_min(parameters(), size_bytes=size_bytes, operations=operations)

    return Fees(of_size, of_wish)


class LedgerApi:
    """Answers from the committed state alone."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def handlers(self) -> dict[str, Handler]:
        """Method name -> handler."""
        return {
            "chain_estimateFee": self.fee,
            "chain_getHold": self.hold,
            "chain_getHolds": self.holds,
        }

    async def fee(self, params: api.FeeParams, _caller: Caller) -> api.FeeEstimate:
        """What suffices, by the function that admission and the wallet use."""
        draft, payload = self._draft(params)
        prices = self._ledger.parameters
        size_bytes, operations = size_to_pay(draft), operations_of(payload)
        return api.FeeEstimate(
            fee=str(fee_min(prices, size_bytes=size_bytes, operations=operations)),
            size_bytes=size_bytes,
            operations=operations,
            fee_base=str(prices.fee_base),
            fee_per_byte=str(prices.fee_per_byte),
            fee_per_operation=str(prices.fee_per_operation),
        )

    async def hold(self, params: api.HoldParams, _caller: Caller) -> api.HoldInfo:
        """One hold by its id."""
        held = self._ledger.view.hold(parse_hex(params.hold, size=32, what="hold"))
        if held is None:
            raise NotFound(
                f"no hold {params.hold} on the ledger",
                hint="see those of an account: prsm chain holds ADDRESS",
            )
        return self._info(held)

    async def holds(self, params: api.HoldsParams, _caller: Caller) -> api.Holds:
        """All that name an account, by height and id."""
        found = self._ledger.view.holds(parse_hex(params.address, size=32, what="address"))
        found.sort(key=lambda held: (held.opened_height, held.hold))
        return api.Holds(
            height=self._ledger.height,
            items=tuple(self._info(held) for held in found[: params.limit]),
            more=len(found) > params.limit,
        )

    def _draft(self, params: api.FeeParams) -> tuple[Transaction, Record]:
        """The transaction asked about; of a payload alone, one in the longest envelope."""
        if params.raw is not None:
            if params.kind is not None or params.payload is not None:
                raise LocalError("both a transaction and a payload", hint="give one of them")
            draft = decode_transaction(bytes.fromhex(params.raw[2:]))
        else:
            if params.kind is None or params.payload is None:
                raise LocalError(
                    "neither a transaction nor a kind with its payload",
                    hint="give --raw, or --kind and --payload",
                )
            draft = Transaction(
                version=1,
                chain_id=self._ledger.genesis.chain_id,
                kind=kind_called(params.kind)[0],
                sender=bytes(32),
                nonce=INT_MAX,
                fee=0,
                payload=bytes.fromhex(params.payload[2:]),
                valid_until_ms=INT_MAX,
                signature=bytes(64),
            )
        return draft, PAYLOADS.decode(draft.kind, draft.payload, size_max=TRANSACTION_BYTES_MAX)

    def _info(self, held: Held) -> api.HoldInfo:
        terms, now_ms = held.terms, self._ledger.tip.time_ms
        is_due = terms.fallback is not None and now_ms >= terms.fallback.after_ms
        return api.HoldInfo(
            hold=address_text(held.hold),
            holder=address_text(held.holder),
            asset=terms.asset,
            amount=str(terms.amount),
            left=str(held.left),
            state=_state(held, is_due=is_due),
            opened_height=held.opened_height,
            branches=tuple(
                api.BranchInfo(
                    to=address_text(branch.to),
                    condition=readable_record(branch.condition),
                    vesting=None if branch.vesting is None else readable_record(branch.vesting),
                    due="0" if is_due else str(due(held, branch, time_ms=now_ms)),
                )
                for branch in terms.branches
            ),
            fallback=None if terms.fallback is None else readable_record(terms.fallback),
            height=self._ledger.height,
            raw="0x" + encode(held).hex(),
        )


def _state(held: Held, *, is_due: bool) -> Literal["open", "due", "paid", "reclaimed"]:
    if held.left:
        return "due" if is_due else "open"
    return "reclaimed" if held.reclaimed else "paid"
