"""The mempool: order by nonce and fee, every bound, every refusal."""

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prsm.consensus.ledger.errors import BadNonce, Expired, FeeTooLow
from prsm.node.mempool import Mempool, MempoolFull, MempoolLimits
from prsm.protocol.codec import encode
from prsm.protocol.errors import LocalError
from prsm.protocol.ids import TxId
from prsm.protocol.transactions.envelope import Transaction, decode_transaction, transaction_id

A, B, C = (bytes([letter]) * 32 for letter in b"ABC")


def order(
    sender: bytes, nonce: int, fee: int = 1_000, *, until: int = 10**9, size: int = 0
) -> tuple[bytes, Transaction]:
    transaction = Transaction(
        version=1,
        chain_id=bytes(8),
        kind=1,
        sender=sender,
        nonce=nonce,
        fee=fee,
        payload=bytes(size),
        valid_until_ms=until,
        signature=bytes(64),
    )
    return encode(transaction), transaction


def pool(**limits: int) -> Mempool:
    return Mempool(lambda _: 0, limits=MempoolLimits(**limits))


def put(mempool: Mempool, *orders: tuple[bytes, Transaction], now: int = 0) -> None:
    for raw, transaction in orders:
        mempool.add(raw, transaction, now)


def shown(mempool: Mempool, limit: int = 100) -> list[tuple[bytes, int]]:
    found = [decode_transaction(raw) for raw in mempool.ready(limit)]
    return [(transaction.sender, transaction.nonce) for transaction in found]


def test_ready_keeps_a_senders_order_and_takes_the_dearest_head_first() -> None:
    mempool = pool()
    put(mempool, order(A, 1, 9_000), order(A, 0, 100), order(B, 0, 5_000), order(C, 1, 99_000))
    assert shown(mempool) == [(B, 0), (A, 0), (A, 1)]  # C waits behind a gap
    assert shown(mempool, 1) == [(B, 0)]


def test_add_gives_the_same_answer_for_a_waiting_transaction() -> None:
    mempool = pool()
    raw, transaction = order(A, 0)
    assert mempool.add(raw, transaction, 0) == mempool.add(raw, transaction, 1)
    identity = transaction_id(raw)
    assert len(mempool) == 1
    assert identity in mempool
    assert mempool.get(identity) == raw
    assert mempool.get(TxId(bytes(32))) is None


def test_add_refuses_committed_and_far_nonces() -> None:
    mempool = Mempool(lambda _: 5)
    with pytest.raises(BadNonce, match="the next one is 5"):
        mempool.add(*order(A, 4), 0)
    with pytest.raises(BadNonce, match="at most 64 wait"):
        mempool.add(*order(A, 5 + 64), 0)
    mempool.add(*order(A, 5 + 63), 0)


def test_add_bounds_what_waits_behind_a_gap() -> None:
    mempool = pool()
    put(mempool, order(A, 0), *(order(A, nonce) for nonce in range(2, 18)))
    with pytest.raises(BadNonce, match="behind missing 1") as refused:
        mempool.add(*order(A, 18), 0)
    assert "nonce 1 first" in refused.value.hint
    mempool.add(*order(A, 1), 0)
    mempool.add(*order(A, 18), 0)
    assert mempool.next_nonce(A) == 19


def test_add_replaces_for_a_tenth_more_only() -> None:
    mempool = pool()
    put(mempool, order(A, 0, 1_000))
    with pytest.raises(FeeTooLow, match="at least 1100"):
        mempool.add(*order(A, 0, 1_099), 0)
    put(mempool, order(A, 0, 1_100))
    assert len(mempool) == 1
    assert decode_transaction(mempool.ready(1)[0]).fee == 1_100


def test_add_refuses_what_has_expired() -> None:
    with pytest.raises(Expired):
        pool().add(*order(A, 0, until=99), 100)
    pool().add(*order(A, 0, until=100), 100)


def test_full_pool_puts_out_the_cheapest_with_its_followers() -> None:
    mempool = pool(count_max=3, per_sender_max=3, gapped_max=2)
    put(mempool, order(A, 0, 100), order(A, 1, 9_000), order(B, 0, 500))
    mempool.add(*order(C, 0, 300), 0)
    assert shown(mempool) == [(B, 0), (C, 0)]
    put(mempool, order(C, 1, 700))
    with pytest.raises(MempoolFull) as full:
        mempool.add(*order(A, 0, 200), 0)
    assert full.value.retry_after_ms > 0
    assert full.value.reason == "mempool_full"


def test_full_pool_never_breaks_the_senders_own_order() -> None:
    mempool = pool(count_max=1, per_sender_max=1, gapped_max=1)
    put(mempool, order(A, 0, 100))
    wide = pool(count_max=2, per_sender_max=2, gapped_max=1)
    put(wide, order(A, 0, 100), order(B, 0, 900))
    with pytest.raises(MempoolFull):
        wide.add(*order(A, 1, 99_000), 0)
    put(mempool, order(A, 0, 200))  # a replacement needs no room
    assert len(mempool) == 1


def test_bytes_are_bounded() -> None:
    mempool = pool(bytes_max=2_000)
    put(mempool, order(A, 0, 1_000, size=1_000))
    with pytest.raises(MempoolFull, match="bytes wait"):
        mempool.add(*order(B, 0, 900, size=1_000), 0)
    mempool.add(*order(B, 0, 9_000, size=1_000), 0)
    assert shown(mempool) == [(B, 0)]


def test_full_pool_forgets_ids_that_left_before_it_looks_for_the_cheapest() -> None:
    mempool = pool(count_max=2, per_sender_max=2, gapped_max=1)
    put(mempool, order(A, 0, 100), order(B, 0, 500))
    mempool.drop(transaction_id(order(A, 0, 100)[0]))
    mempool.drop(TxId(bytes(32)))
    put(mempool, order(C, 0, 400))
    mempool.add(*order(A, 0, 450), 0)
    assert shown(mempool) == [(B, 0), (A, 0)]


def test_life_ends() -> None:
    mempool = pool(life_ms=100)
    put(mempool, order(A, 0), now=0)
    put(mempool, order(A, 1), now=50)
    assert mempool.drop_expired(100) == 0
    assert mempool.drop_expired(101) == 1
    assert shown(mempool) == []
    assert len(mempool) == 1


def test_drop_committed_moves_each_sender_on() -> None:
    mempool = pool()
    first = order(A, 0)
    put(mempool, first, order(A, 1), order(A, 2), order(B, 0))
    mempool.drop_committed([transaction_id(first[0]), bytes(32)], {A: 2, C: 7})
    assert shown(mempool) == [(A, 2), (B, 0)] or shown(mempool) == [(B, 0), (A, 2)]
    assert len(mempool) == 2


def test_memory_stays_bounded_when_transactions_come_and_go() -> None:
    committed: dict[bytes, int] = defaultdict(int)
    mempool = Mempool(lambda sender: committed[sender])
    for nonce in range(1_000):
        raw, transaction = order(A, nonce)
        mempool.add(raw, transaction, nonce)
        committed[A] = nonce + 1
        mempool.drop_committed([transaction_id(raw)], {A: nonce + 1})
    assert len(mempool) == mempool.size_bytes == 0
    assert len(mempool._cheapest) < 100
    assert len(mempool._arrivals) < 100


ORDERS = st.tuples(st.sampled_from([A, B, C]), st.integers(0, 6), st.integers(1, 2_000))


@given(st.lists(st.tuples(ORDERS, st.booleans()), max_size=40))
def test_whatever_happens_bounds_and_order_hold(
    steps: list[tuple[tuple[bytes, int, int], bool]],
) -> None:
    """Random adds and commits; then: bounds, sizes, unique nonces in order without a hole."""
    committed: dict[bytes, int] = defaultdict(int)
    mempool = Mempool(
        lambda sender: committed[sender],
        limits=MempoolLimits(count_max=6, per_sender_max=4, gapped_max=2),
    )
    for now, ((sender, nonce, fee), commits) in enumerate(steps):
        if commits and (chosen := mempool.ready(1)):
            transaction = decode_transaction(chosen[0])
            committed[transaction.sender] += 1
            mempool.drop_committed([], {transaction.sender: committed[transaction.sender]})
        else:
            try:
                mempool.add(*order(sender, nonce, fee), now)
            except LocalError:
                continue
    ready = shown(mempool)
    for sender in (A, B, C):
        nonces = [nonce for owner, nonce in ready if owner == sender]
        assert nonces == list(range(committed[sender], committed[sender] + len(nonces)))
    assert len(mempool) <= 6
    assert mempool.size_bytes == sum(len(mempool.get(i) or b"") for i in mempool._by_id)
