"""Transactions as a client outside of the nodes signs them: for load, histories and trials.

Knows: the envelope and its fee. Must not know: nodes.
"""

import time
from typing import Final

import msgspec

from prsm.consensus.ledger.fees import fee_to_offer
from prsm.protocol.codec import Record, encode
from prsm.protocol.ed25519 import Ed25519Signer
from prsm.protocol.genesis import Genesis
from prsm.protocol.ids import FTNS
from prsm.protocol.signing import sha256
from prsm.protocol.transactions.envelope import Transaction, sign_transaction
from prsm.protocol.transactions.payloads import PAYLOADS, Transfer

VALID_MS: Final = 6 * 3_600_000  # no node's wrong clock makes it too late


def signer_of(seed: int, number: int) -> Ed25519Signer:
    """The key of a client's account."""
    return Ed25519Signer(sha256(b"prsm client", seed.to_bytes(8, "big"), number.to_bytes(4, "big")))


def transfer(to: bytes, amount: int) -> Transfer:
    """A payment in FTNS."""
    return Transfer(asset=FTNS, to=to, amount=amount, memo=b"")


def order(
    genesis: Genesis, signer: Ed25519Signer, payload: Record, *, nonce: int, percent: int = 100
) -> bytes:
    """Sign a transaction.

    Args:
        genesis: of the network.
        signer: of the sending account.
        payload: of a registered kind.
        nonce: of the account.
        percent: of the least fee; above 100 to take the place of another one.
    """
    draft = Transaction(
        version=1,
        chain_id=genesis.chain_id,
        kind=PAYLOADS.number(type(payload)),
        sender=signer.public_key,
        nonce=nonce,
        fee=0,
        payload=encode(payload),
        valid_until_ms=time.time_ns() // 1_000_000 + VALID_MS,
        signature=bytes(64),
    )
    fee = fee_to_offer(genesis.parameters, draft, payload) * percent // 100
    return encode(sign_transaction(msgspec.structs.replace(draft, fee=fee), signer))
