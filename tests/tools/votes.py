"""Signed agreement messages of a numbered chain, for evidence."""

from prsm.protocol.messages.consensus import SignedMessage, sign_message
from prsm.protocol.signing import Kind
from prsm.testnet.chain import Chain, signer_of


def vote_of(
    chain: Chain, kind: Kind, body: bytes, *, signer: int, key: int | None = None, **place: int
) -> SignedMessage:
    """A message of height 5, view 1 and epoch 0 unless `place` says otherwise.

    Args:
        chain: whose network.
        kind: what it states.
        body: as on the wire.
        signer: index in the set.
        key: number of the key that signs; the index if None.
        **place: epoch, height, view.
    """
    where = {"epoch": 0, "height": 5, "view": 1} | place
    unsigned = SignedMessage(kind=kind, body=body, signer=signer, signature=bytes(64), **where)
    secret = signer_of(signer if key is None else key)
    return sign_message(unsigned, secret, chain.genesis.chain_id)
