"""Transfers of a bench: one size, ascending nonces, signatures that hold."""

from prsm.protocol.ed25519 import Ed25519Verifier
from prsm.protocol.transactions.envelope import decode_transaction, is_signed
from prsm.testnet.bench.orders import FUNDS, Payers, funded
from prsm.testnet.bench.run import percentile


def test_transfers_have_one_size_and_each_senders_nonces_ascend() -> None:
    """Three accounts in turn, then one of them alone: sizes, nonces and signatures."""
    payers = Payers(b"testnet1", count=3, size_bytes=230, valid_until_ms=10**12)
    raws = payers.sign(7) + payers.sign_of(1, 2)
    orders = [decode_transaction(raw) for raw in raws]
    accounts = [allocation.account for allocation in funded(3)]
    assert {len(raw) for raw in raws} == {230}
    assert [(accounts.index(order.sender), order.nonce) for order in orders] == [
        (0, 0),
        (1, 0),
        (2, 0),
        (0, 1),
        (1, 1),
        (2, 1),
        (0, 2),
        (1, 2),
        (1, 3),
    ]
    assert all(is_signed(order, Ed25519Verifier()) for order in orders)
    assert {allocation.amount for allocation in funded(2)} == {FUNDS}


def test_percentile_is_by_nearest_rank() -> None:
    """Of a hundred values the 99th percentile is the 99th; of none it is 0."""
    assert [percentile(range(1, 101), p) for p in (50, 99, 100)] == [50, 99, 100]
    assert percentile([], 50) == 0.0
