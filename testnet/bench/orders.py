"""Signed transfers of exactly one size, made before a clock starts.

Knows: keys of numbered accounts, nonces, how long a transfer is. Must not know: networks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, final

from prsm.protocol.codec import encode
from prsm.protocol.ed25519 import Ed25519Signer
from prsm.protocol.genesis import Allocation
from prsm.protocol.ids import FTNS
from prsm.protocol.transactions.envelope import Transaction, sign_transaction
from prsm.protocol.transactions.payloads import TRANSFER, Transfer
from prsm.testnet.chain import signer_of

FIRST_ACCOUNT: Final = 64  # key numbers below are validators' in `testnet/chain`
FEE: Final = 10_000
FUNDS: Final = FEE * 1_000_000  # micro-FTNS of an account: a million transfers


@dataclass(frozen=True, slots=True)
class Purse:
    """Signs transfers of one account.

    Attributes:
        chain_id: of the network.
        key: of the account.
        valid_until_ms: of all its transfers.
        size_bytes: of each, signature included.
    """

    chain_id: bytes
    key: Ed25519Signer
    valid_until_ms: int
    size_bytes: int = 200

    def pay(self, to: bytes, nonce: int) -> bytes:
        """A signed transfer of exactly `size_bytes`; a memo fills it up."""
        empty = self._draft(to, nonce, b"")
        memo = bytes(self.size_bytes - len(encode(empty)))
        return encode(sign_transaction(self._draft(to, nonce, memo), self.key))

    def _draft(self, to: bytes, nonce: int, memo: bytes) -> Transaction:
        return Transaction(
            version=1,
            chain_id=self.chain_id,
            kind=TRANSFER,
            sender=self.key.public_key,
            nonce=nonce,
            fee=FEE,
            payload=encode(Transfer(asset=FTNS, to=to, amount=1, memo=memo)),
            valid_until_ms=self.valid_until_ms,
            signature=bytes(64),
        )


@final
class Payers:
    """Accounts that pay their neighbours in turn, each with its own nonces.

    Args:
        chain_id: of the network.
        count: of accounts.
        size_bytes: of a transfer.
        valid_until_ms: of all transfers.
    """

    def __init__(
        self, chain_id: bytes, *, count: int, size_bytes: int, valid_until_ms: int
    ) -> None:
        self._chain_id = chain_id
        self._count = count
        self._size_bytes = size_bytes
        self._valid_until_ms = valid_until_ms
        self._purses: dict[int, Purse] = {}
        self._nonces: dict[int, int] = {}
        self._next = 0

    def sign(self, count: int) -> list[bytes]:
        """The next transfers, senders in turn: a sender's nonces ascend."""
        return [self._sign(self._take()) for _ in range(count)]

    def sign_of(self, account: int, count: int) -> list[bytes]:
        """The next transfers of one account."""
        return [self._sign(account) for _ in range(count)]

    def _take(self) -> int:
        account, self._next = self._next, (self._next + 1) % self._count
        return account

    def _sign(self, account: int) -> bytes:
        nonce = self._nonces.get(account, 0)
        self._nonces[account] = nonce + 1
        to = self._purse((account + 1) % self._count).key.public_key
        return self._purse(account).pay(to, nonce)

    def _purse(self, account: int) -> Purse:
        purse = self._purses.get(account)
        if purse is None:
            key = signer_of(FIRST_ACCOUNT + account)
            purse = Purse(self._chain_id, key, self._valid_until_ms, self._size_bytes)
            self._purses[account] = purse
        return purse


def funded(count: int) -> Iterator[Allocation]:
    """Balances of the first `count` accounts for a genesis."""
    return (Allocation(signer_of(FIRST_ACCOUNT + i).public_key, FUNDS) for i in range(count))
