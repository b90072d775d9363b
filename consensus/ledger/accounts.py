"""Balances, nonces, and the transfer between two accounts."""

from prsm.consensus.ledger.context import DONE, Context, Effect
from prsm.consensus.ledger.errors import Failed
from prsm.consensus.ledger.records import (
    TOTALS_KEY,
    Balance,
    Nonce,
    Totals,
    account_key,
    nonce_key,
)
from prsm.consensus.ledger.state import Reader, State, read
from prsm.protocol.genesis import TREASURY
from prsm.protocol.ids import FTNS, Amount
from prsm.protocol.transactions.payloads import Transfer
from prsm.protocol.transactions.results import Code


def balance(reader: Reader, account: bytes, asset: int = FTNS) -> Amount:
    """Spendable micro-units of an account."""
    return Amount(_amount(reader, account_key(account, asset)))


def next_nonce(reader: Reader, account: bytes) -> int:
    """Nonce the account's next transaction must have."""
    record = read(reader, nonce_key(account), Nonce)
    return 0 if record is None else record.next


def totals(reader: Reader) -> Totals:
    """Where all micro-FTNS are."""
    record = read(reader, TOTALS_KEY, Totals)
    assert record is not None, "a state without totals"
    return record


def add_totals(state: State, *, locked: int = 0, bonded: int = 0) -> None:
    """Note what moved between balances, escrow and bonds."""
    old = totals(state)
    state.write(
        TOTALS_KEY,
        Totals(
            minted=old.minted,
            locked=old.locked + locked,
            bonded=old.bonded + bonded,
            burnt=old.burnt,
        ),
    )


def credit(state: State, account: bytes, amount: int, asset: int = FTNS) -> None:
    """Add to a balance."""
    assert amount >= 0
    key = account_key(account, asset)
    _put(state, key, _amount(state, key) + amount)


def debit(state: State, account: bytes, amount: int, asset: int = FTNS) -> None:
    """Take from a balance.

    Raises:
        Failed: the balance does not cover it.
    """
    assert amount >= 0
    key = account_key(account, asset)
    left = _amount(state, key) - amount
    if left < 0:
        raise Failed(Code.INSUFFICIENT_FUNDS)
    _put(state, key, left)


def charge(state: State, sender: bytes, *, fee: int) -> None:
    """Take the fee to the treasury and raise the nonce.

    Raises:
        Failed: the balance does not cover the fee.
    """
    debit(state, sender, fee)
    credit(state, TREASURY, fee)
    state.write(nonce_key(sender), Nonce(next=next_nonce(state, sender) + 1))


def transfer(state: State, payload: Transfer, context: Context) -> Effect:
    """Move an amount from the sender to another account."""
    if payload.asset != FTNS:
        raise Failed(Code.UNKNOWN_ASSET)
    debit(state, context.sender, payload.amount, payload.asset)
    credit(state, payload.to, payload.amount, payload.asset)
    return DONE


def _amount(reader: Reader, key: bytes) -> int:
    record = read(reader, key, Balance)
    return 0 if record is None else record.amount


def _put(state: State, key: bytes, amount: int) -> None:
    if amount:
        state.write(key, Balance(amount=amount))
    else:
        state.delete(key)
