"""Who uses the money of a run: senders that never tire, rivals of their own transactions.

Knows: transfers, nonces, the keys of accounts. Must not know: nodes, agreement.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from prsm.consensus.ledger.fees import fee_to_offer
from prsm.protocol.codec import encode
from prsm.protocol.ed25519 import Signer
from prsm.protocol.genesis import Allocation, Genesis
from prsm.protocol.signing import sha256
from prsm.protocol.transactions.envelope import Transaction, sign_transaction
from prsm.protocol.transactions.payloads import TRANSFER, Transfer

COUNT: Final = 4  # the last one is the pauper, who cannot pay any fee
BALANCE: Final = 100_000_000
LONG_MS: Final = 3_600_000
SHORT_MS: Final = 300


def allocations_of(
    signers: Sequence[Signer], operators: Sequence[Signer] = ()
) -> tuple[Allocation, ...]:
    """What the accounts own before the first block."""
    balances = [BALANCE] * (COUNT - 1) + [1] + [BALANCE] * len(operators)
    return tuple(
        Allocation(signer.public_key, balance)
        for signer, balance in zip((*signers, *operators), balances, strict=True)
    )


@dataclass(slots=True)
class Clients:
    """The senders of one run."""

    signers: Sequence[Signer]
    genesis: Genesis
    dice: Random
    nonces: list[int] = field(default_factory=lambda: [0] * COUNT)
    said: list[bytes] = field(default_factory=list)

    def order(self, now_ms: int) -> tuple[bytes, bytes | None]:
        """Return a transaction for all nodes and, now and then, a rival with its nonce."""
        dice = self.dice
        sender = dice.randrange(COUNT - 1)
        nonce = self.nonces[sender]
        self.nonces[sender] += 1
        amount = BALANCE * 2 if dice.random() < 0.1 else dice.randint(1, 5_000)
        first = self._transfer(sender, nonce, amount, now_ms + LONG_MS)
        rival = None
        if dice.random() < 0.2:
            until_ms = now_ms + dice.choice((SHORT_MS, LONG_MS))
            rival = self._transfer(sender, nonce, amount + 1, until_ms)
        self.said.append(first)
        return first, rival

    def poison(self, now_ms: int) -> bytes:  # noqa: PLR0911 - dispatch
        """Return a transaction that no honest block may hold; a replayed one, if it was decided."""
        dice = self.dice
        sender = dice.randrange(COUNT - 1)
        nonce = self.nonces[sender]
        match dice.randrange(7):
            case 0 if self.said:
                return self.said[dice.randrange(len(self.said))]
            case 1:
                return self._transfer(sender, nonce + 1, 1, now_ms + LONG_MS)
            case 2:
                return self._transfer(sender, nonce, 1, max(0, now_ms - 1))
            case 3:
                return self._transfer(sender, nonce, 1, now_ms + LONG_MS, chain_id=bytes(8))
            case 4:
                return self._transfer(COUNT - 1, 0, 1, now_ms + LONG_MS)
            case 5:
                raw = self._transfer(sender, nonce, 1, now_ms + LONG_MS)
                return raw[:-1] + bytes([raw[-1] ^ 1])
            case _:
                return b"t no transaction at all"

    def _transfer(
        self, sender: int, nonce: int, amount: int, until_ms: int, *, chain_id: bytes | None = None
    ) -> bytes:
        signer = self.signers[sender]
        to = self.dice.choice((self.signers[0].public_key, sha256(b"%d" % amount)))
        payload = Transfer(0, to, amount, b"")
        chain_id = self.genesis.chain_id if chain_id is None else chain_id
        content = encode(payload)
        args = (1, chain_id, TRANSFER, signer.public_key, nonce)
        draft = Transaction(*args, 0, content, until_ms, bytes(64))
        fee = fee_to_offer(self.genesis.parameters, draft, payload)
        priced = Transaction(*args, fee, content, until_ms, bytes(64))
        return encode(sign_transaction(priced, signer))
