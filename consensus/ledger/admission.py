"""What is asked of a transaction before it may execute, without and with the state.

Raises typed errors, so that a person reads why; the judge of a block turns them into a verdict.
"""

from collections.abc import Callable, Container
from dataclasses import dataclass, replace
from typing import final

from prsm.consensus.ledger.accounts import balance, next_nonce
from prsm.consensus.ledger.errors import BadNonce, Expired, FeeTooLow, InsufficientFunds
from prsm.consensus.ledger.fees import fee_min, operations_of
from prsm.consensus.ledger.state import Reader
from prsm.protocol.codec import Record
from prsm.protocol.ed25519 import Verifier
from prsm.protocol.errors import BadSignature, WrongChain
from prsm.protocol.genesis import Parameters
from prsm.protocol.ids import TxId, address_text, format_ftns
from prsm.protocol.limits import TRANSACTION_BYTES_MAX
from prsm.protocol.transactions.envelope import (
    Transaction,
    decode_transaction,
    is_signed,
    transaction_id,
)
from prsm.protocol.transactions.payloads import PAYLOADS


@dataclass(frozen=True, slots=True)
class Checked:
    """A transaction whose form, network, payload, fee and signature are right."""

    raw: bytes
    id: TxId
    transaction: Transaction
    payload: Record
    parameters: Parameters  # the fee suffices under these


Recall = Callable[[bytes], Checked | None]  # by id: what `check` returned for these bytes before


def recall_nothing(_identity: bytes) -> Checked | None:
    """Remember no transaction."""
    return None


def _forget(_checked: Checked) -> None:
    """Keep no transaction."""


@final
class Admission:
    """Checks transactions of one network."""

    def __init__(
        self,
        chain_id: bytes,
        parameters: Parameters,
        verifier: Verifier,
        *,
        known: Container[bytes] = frozenset(),
        recall: Recall = recall_nothing,
    ) -> None:
        """Start with nothing remembered.

        Args:
            chain_id: of the network.
            parameters: of the present; `follow` says when they change.
            verifier: libsodium's rule.
            known: ids of transactions whose signature was checked already.
            recall: what `check` of this network returned earlier, while somebody keeps it; saves
                decoding them again, and changes no verdict: the id binds all bytes, and the
                fee is checked again when parameters have changed.
        """
        self._chain_id = chain_id
        self._parameters = parameters
        self._verifier = verifier
        self._known = known
        self._recall = recall
        # Told of each transaction that was found good, whoever asked: set by who keeps them.
        self.remember: Callable[[Checked], None] = _forget

    def check(self, raw: bytes) -> Checked:
        """Check what no state is needed for.

        Raises:
            WireError: envelope or payload are not canonical or out of their bounds.
            WrongChain: signed for another network.
            FeeTooLow: below the fee of this size and this many operations.
            BadSignature: not by its sender.
        """
        identity = transaction_id(raw)
        earlier = self._recall(identity)
        if earlier is not None:
            return self._recheck(earlier)
        transaction = decode_transaction(raw)
        if transaction.chain_id != self._chain_id:
            raise WrongChain(
                f"transaction of network {transaction.chain_id.hex()}, "
                f"this is {self._chain_id.hex()}",
                hint="sign it with the genesis of this network",
            )
        payload = PAYLOADS.decode(
            transaction.kind, transaction.payload, size_max=TRANSACTION_BYTES_MAX
        )
        parameters = self._parameters
        check_fee(parameters, transaction.fee, payload, size_bytes=len(raw))
        if identity not in self._known and not is_signed(transaction, self._verifier):
            raise BadSignature(
                f"transaction {identity.hex()[:16]} is not signed by its sender",
                hint="sign the canonical bytes with the sender's key",
            )
        checked = Checked(raw, identity, transaction, payload, parameters)
        self.remember(checked)
        return checked

    def follow(self, parameters: Parameters) -> None:
        """From now on check by these parameters: a decision has changed them."""
        self._parameters = parameters

    def _recheck(self, earlier: Checked) -> Checked:
        """What was checked under other parameters must still pay its fee, on every node."""
        parameters = self._parameters
        if earlier.parameters is parameters:
            return earlier
        check_fee(parameters, earlier.transaction.fee, earlier.payload, size_bytes=len(earlier.raw))
        return replace(earlier, parameters=parameters)

    def check_turn(self, checked: Checked, state: Reader, *, time_ms: int) -> None:
        """Check that it is this transaction's turn and that it can pay its fee.

        Args:
            checked: as `check` returned it.
            state: before the transaction.
            time_ms: of the block.

        Raises:
            Expired: the block is after `valid_until_ms`, or that lies too far ahead.
            BadNonce: not the sender's next nonce.
            InsufficientFunds: the balance does not cover the fee.
        """
        self.check_time(checked.transaction, time_ms=time_ms)
        sender, nonce = checked.transaction.sender, checked.transaction.nonce
        expected = next_nonce(state, sender)
        if nonce != expected:
            raise BadNonce(
                f"nonce {nonce}, the next one of {address_text(sender)} is {expected}",
                hint=f"use nonce {expected}",
            )
        have = balance(state, sender)
        if have < checked.transaction.fee:
            raise InsufficientFunds(
                f"balance of {format_ftns(have)} FTNS, the fee alone is "
                f"{format_ftns(checked.transaction.fee)}",
                hint="send FTNS to this account first",
            )

    def check_time(self, transaction: Transaction, *, time_ms: int) -> None:
        """Check a transaction's life against block time; both ends are included.

        Raises:
            Expired: the block is after `valid_until_ms`, or that lies too far ahead.
        """
        ahead = transaction.valid_until_ms - time_ms
        if not 0 <= ahead <= self._parameters.transaction_ms_max:
            raise Expired(
                f"valid until {transaction.valid_until_ms} ms, the block is of {time_ms} ms, at "
                f"most {self._parameters.transaction_ms_max} ms ahead",
                hint="sign it again with a later time",
            )


def check_fee(parameters: Parameters, fee: int, payload: Record, *, size_bytes: int) -> None:
    """Check that a fee suffices for so many bytes of this payload.

    Raises:
        FeeTooLow: it does not.
    """
    operations = operations_of(payload)
    least = fee_min(parameters, size_bytes=size_bytes, operations=operations)
    if fee < least:
        raise FeeTooLow(
            f"fee of {fee} micro-FTNS, at least {least} for {size_bytes} bytes "
            f"and {operations} operations",
            hint=f"offer {least} micro-FTNS or more",
        )
