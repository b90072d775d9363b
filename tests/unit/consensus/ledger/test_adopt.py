"""A snapshot takes a ledger's place: what of the old one stays. Its state: test_governance."""

import msgspec

from prsm.consensus.ledger.apply import Ledger
from prsm.protocol.codec import encode
from prsm.protocol.ed25519 import Ed25519Verifier
from prsm.protocol.transactions.envelope import decode_transaction, transaction_id
from prsm.protocol.transactions.payloads import Transfer
from prsm.testnet.chain import Chain, signer_of, small_genesis


def test_what_was_checked_before_a_snapshot_is_not_checked_again_after_it() -> None:
    """The door keeps its memory, and blocks are judged with the same one."""
    chain, verifier = Chain(small_genesis()), Ed25519Verifier()
    chain.add()
    raw = chain.order(64, Transfer(0, signer_of(90).public_key, 1, b""))
    unsigned = encode(msgspec.structs.replace(decode_transaction(raw), signature=bytes(64)))
    behind = Ledger(
        chain.genesis, {}, verifier=verifier, tip=None, known={transaction_id(unsigned)}
    )
    door = behind.admission
    ahead = Ledger(
        chain.genesis, dict(chain.ledger._state), verifier=verifier, tip=chain.ledger.tip
    )
    block = chain.propose(unsigned)
    assert "not signed by its sender" in str(ahead.judge(block, wall_ms=None))
    behind.adopt(ahead)
    assert behind.admission is door
    assert behind.judge(block, wall_ms=None) is None
