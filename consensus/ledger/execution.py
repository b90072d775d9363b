"""Runs the content of a block on an overlay: evidence first, then transactions in order.

Knows what refuses a whole block and what only costs a transaction its fee. Must not know
headers, roots or the clock.
"""

from dataclasses import dataclass
from typing import final

from prsm.consensus.ledger.accounts import charge
from prsm.consensus.ledger.admission import Admission, Checked
from prsm.consensus.ledger.context import Context, Effect, Event
from prsm.consensus.ledger.errors import Failed
from prsm.consensus.ledger.kinds import RULES
from prsm.consensus.ledger.rounds import turn
from prsm.consensus.ledger.slashing import punish
from prsm.consensus.ledger.state import Reader, State
from prsm.protocol.codec import decode, encode
from prsm.protocol.ed25519 import Verifier
from prsm.protocol.errors import PrsmError
from prsm.protocol.genesis import Parameters
from prsm.protocol.ids import Height, Millis, TxId
from prsm.protocol.limits import PROOFS_PER_BLOCK_MAX, TRANSACTION_BYTES_MAX
from prsm.protocol.transactions.payloads import PROVE, Evidence
from prsm.protocol.transactions.results import Code, TxReceipt
from prsm.protocol.validators import ValidatorSet


@dataclass(frozen=True, slots=True)
class Ground:
    """What all blocks of an epoch share."""

    chain_id: bytes
    parameters: Parameters
    validators: ValidatorSet
    verifier: Verifier
    admission: Admission


class BlockRefused(Exception):  # never leaves consensus/ledger
    """No honest proposer makes such a block; the text says why."""


@final
class Execution:
    """One block, or a candidate for one, running over a committed state."""

    def __init__(
        self, below: Reader, ground: Ground, *, height: Height, time_ms: Millis, parent: bytes
    ) -> None:
        """Start on an untouched overlay; the block's height, time, and the hash before it."""
        self.state = State(below)
        turn(
            self.state,
            ground.parameters,
            chain_id=ground.chain_id,
            height=height,
            time_ms=time_ms,
            parent=parent,
        )
        self._proofs = 0
        self.receipts: list[bytes] = []
        self.tx_ids: list[TxId] = []
        self.senders: set[bytes] = set()
        self.events: list[Event] = []
        self._ground = ground
        self._height = height
        self._time_ms = time_ms

    def punish(self, raw: bytes, *, proposer: int) -> None:
        """Apply evidence of the block's body; the proposer's operator is the reporter.

        Raises:
            BlockRefused: it convicts nobody, or nobody a second time.
        """
        reporter = self._ground.validators.validators[proposer].operator
        overlay = State(self.state)
        try:
            evidence = decode(raw, Evidence, size_max=TRANSACTION_BYTES_MAX)
            effect = punish(overlay, evidence, self._context(reporter))
        except PrsmError as error:
            raise BlockRefused(f"evidence: {error.what}") from error
        except Failed as error:
            raise BlockRefused(f"evidence: {error.code.name.lower()}") from error
        self.state.merge(overlay)
        self.events.extend(effect.events)

    def run(self, raw: bytes) -> TxReceipt:
        """Execute one transaction: its fee in any case, its effect if its rule allows.

        Raises:
            BlockRefused: it may not stand in a block at this place.
        """
        try:
            checked = self._ground.admission.check(raw)
            self._ground.admission.check_turn(checked, self.state, time_ms=self._time_ms)
        except PrsmError as error:
            raise BlockRefused(f"transaction {len(self.tx_ids)}: {error.what}") from error
        if checked.transaction.kind == PROVE:
            if self._proofs == PROOFS_PER_BLOCK_MAX:
                raise BlockRefused(f"more than {PROOFS_PER_BLOCK_MAX} proofs of custody")
            self._proofs += 1
        return self.execute(checked)

    def execute(self, checked: Checked) -> TxReceipt:
        """Execute a transaction whose turn it is."""
        transaction = checked.transaction
        charge(self.state, transaction.sender, fee=transaction.fee)
        overlay = State(self.state)
        code, effect = Code.DONE, Effect()
        try:
            effect = RULES[transaction.kind](
                overlay, checked.payload, self._context(transaction.sender)
            )
        except Failed as failed:
            code = failed.code
        else:
            self.state.merge(overlay)
        receipt = TxReceipt(
            tx=checked.id,
            code=code,
            fee=transaction.fee,
            paid=effect.paid,
            returned=effect.returned,
            detail=effect.detail,
        )
        self.receipts.append(encode(receipt))
        self.tx_ids.append(checked.id)
        self.senders.add(transaction.sender)
        self.events.extend(effect.events)
        return receipt

    def _context(self, sender: bytes) -> Context:
        return Context(
            sender=sender,
            height=self._height,
            time_ms=self._time_ms,
            chain_id=self._ground.chain_id,
            parameters=self._ground.parameters,
            validators=self._ground.validators,
            verifier=self._ground.verifier,
        )
