"""Transactions signed by clients: the ledger takes them, and a dearer one takes their place."""

import time

import msgspec

from prsm.protocol.ed25519 import Ed25519Verifier
from prsm.protocol.genesis import Allocation
from prsm.protocol.ids import PublicKey
from prsm.protocol.transactions.envelope import decode_transaction, is_signed
from prsm.testnet.chain import START_MS, Chain, small_genesis
from prsm.testnet.orders import VALID_MS, order, signer_of, transfer


def test_order_is_one_the_ledger_executes() -> None:
    """Signed, of the next nonce, with a fee that suffices."""
    signer = signer_of(1, 2)
    genesis = small_genesis()
    account = Allocation(PublicKey(signer.public_key), 10**9)
    genesis = msgspec.structs.replace(genesis, allocations=(*genesis.allocations, account))
    raw = order(genesis, signer, transfer(bytes(32), 5), nonce=0)
    sent = decode_transaction(raw)
    assert is_signed(sent, Ed25519Verifier())
    chain = Chain(genesis)
    now_ms = time.time_ns() // 1_000_000
    made = chain.add(raw, step_ms=now_ms - START_MS)
    assert made.receipts()[0].code == 0
    assert chain.ledger.view.account(bytes(32)) == 5
    assert abs(sent.valid_until_ms - now_ms - VALID_MS) < 60_000


def test_percent_raises_the_fee_and_seeds_make_keys() -> None:
    """150 percent of the least one; another seed or number is another account."""
    genesis, signer = small_genesis(), signer_of(1, 2)
    fees = [
        decode_transaction(
            order(genesis, signer, transfer(bytes(32), 5), nonce=0, percent=each)
        ).fee
        for each in (100, 150)
    ]
    assert fees[1] == fees[0] * 150 // 100
    keys = {bytes(signer_of(seed, number).public_key) for seed in (1, 2) for number in (1, 2)}
    assert len(keys) == 4
