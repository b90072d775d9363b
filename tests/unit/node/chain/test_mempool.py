"""The mempool: order by nonce and fee, every bound, every refusal."""

from collections import defaultdict

import pytest

from prsm.consensus.ledger.errors import BadNonce, Expired, InsufficientFunds
from prsm.node.chain.mempool import Accounts, Mempool, MempoolFull
from prsm.node.chain.noncequeue import MempoolLimits, NonceGap, SenderLimited, Underpaid
from prsm.protocol.codec import encode
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


RICH = Accounts(lambda _: 0, lambda _: 10**9)


def pool(**limits: int) -> Mempool:
    return Mempool(RICH, limits=MempoolLimits(**limits))


def put(mempool: Mempool, *orders: tuple[bytes, Transaction], now: int = 0) -> None:
    for raw, transaction in orders:
        mempool.add(raw, transaction, now)


def is_ready(mempool: Mempool) -> bool:
    return mempool.has_ready


def shown(mempool: Mempool, limit: int = 100) -> list[tuple[bytes, int]]:
    found = [decode_transaction(raw) for raw in mempool.ready(limit)]
    return [(transaction.sender, transaction.nonce) for transaction in found]


def test_ready_keeps_a_senders_order_and_takes_the_dearest_head_first() -> None:
    mempool = pool()
    put(mempool, order(A, 1, 9_000), order(A, 0, 100), order(B, 0, 5_000), order(C, 1, 99_000))
    assert shown(mempool) == [(B, 0), (A, 0), (A, 1)]  # C waits behind a gap
    assert shown(mempool, 1) == [(B, 0)]


def test_of_equal_fees_who_came_first_goes_first() -> None:
    """By id alone a high one would wait until nothing else does."""
    mempool = pool()
    senders = [bytes([letter]) * 32 for letter in range(20)]
    for now, sender in enumerate(senders):
        put(mempool, order(sender, 0), now=now)
    assert [sender for sender, _ in shown(mempool)] == senders


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
    mempool = Mempool(Accounts(lambda _: 5, lambda _: 10**9))
    with pytest.raises(BadNonce, match="the next one is 5"):
        mempool.add(*order(A, 4), 0)
    with pytest.raises(NonceGap, match="at most 64 wait") as refused:
        mempool.add(*order(A, 5 + 64), 0)
    assert refused.value.retry_after_ms > 0
    mempool.add(*order(A, 5 + 63), 0)


def test_add_bounds_what_waits_of_one_sender() -> None:
    """64 in a row wait; the 65th is told when to come again, and fits once one is in a block."""
    committed = 0
    mempool = Mempool(Accounts(lambda _: committed, lambda _: 10**9))
    put(mempool, *(order(A, nonce) for nonce in range(64)))
    with pytest.raises(SenderLimited, match=r"64 transactions of 0x4141.* at most 64") as refused:
        mempool.add(*order(A, 64), 0)
    assert refused.value.retry_after_ms > 0
    committed = 1
    mempool.drop_committed([transaction_id(order(A, 0)[0])], [A])
    mempool.add(*order(A, 64), 0)
    assert len(mempool) == 64
    assert mempool.next_nonce(A) == 65


def test_add_bounds_what_waits_behind_a_gap() -> None:
    mempool = pool()
    put(mempool, order(A, 0), *(order(A, nonce) for nonce in range(2, 18)))
    with pytest.raises(NonceGap, match="behind missing 1") as refused:
        mempool.add(*order(A, 18), 0)
    assert refused.value.retry_after_ms > 0
    assert "nonce 1 first" in refused.value.hint
    mempool.add(*order(A, 1), 0)
    mempool.add(*order(A, 18), 0)
    assert mempool.next_nonce(A) == 19


def test_add_replaces_for_a_tenth_more_only() -> None:
    mempool = pool()
    put(mempool, order(A, 0, 1_000))
    with pytest.raises(Underpaid, match="at least 1100") as refused:
        mempool.add(*order(A, 0, 1_099), 0)
    assert refused.value.retry_after_ms > 0
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


def test_full_pool_loses_nothing_to_one_that_does_not_fit() -> None:
    """Cheaper ones are not enough room: they stay, and so does the order of who leaves first."""
    mempool = pool(bytes_max=2_000)
    put(mempool, order(A, 0, 50, size=400), order(B, 0, 900, size=900))
    with pytest.raises(MempoolFull, match="no cheaper ones"):
        mempool.add(*order(C, 0, 500, size=1_000), 0)
    assert len(mempool) == 2
    mempool.add(*order(C, 0, 500, size=500), 0)
    assert shown(mempool) == [(B, 0), (C, 0)]


def test_replacement_is_not_stopped_by_what_it_replaces() -> None:
    """A larger one in the place of the cheapest: the next cheapest has to leave, no other."""
    mempool = pool(bytes_max=1_500)
    put(mempool, order(A, 0, 100, size=100), order(C, 0, 150, size=100))
    put(mempool, order(B, 0, 90_000, size=600))
    mempool.add(*order(A, 0, 9_000, size=600), 0)
    assert shown(mempool) == [(B, 0), (A, 0)]


def test_drop_committed_moves_each_sender_on() -> None:
    committed: dict[bytes, int] = defaultdict(int)
    mempool = Mempool(Accounts(lambda sender: committed[sender], lambda _: 10**9))
    first = order(A, 0)
    put(mempool, first, order(A, 1), order(A, 2), order(B, 0))
    committed |= {A: 2, C: 7}
    mempool.drop_committed([transaction_id(first[0]), bytes(32)], [A, C])
    assert shown(mempool) == [(A, 2), (B, 0)] or shown(mempool) == [(B, 0), (A, 2)]
    assert len(mempool) == 2


def test_memory_stays_bounded_when_transactions_come_and_go() -> None:
    committed: dict[bytes, int] = defaultdict(int)
    mempool = Mempool(Accounts(lambda sender: committed[sender], lambda _: 10**9))
    for nonce in range(1_000):
        raw, transaction = order(A, nonce)
        mempool.add(raw, transaction, nonce)
        committed[A] = nonce + 1
        mempool.drop_committed([transaction_id(raw)], [A])
    assert len(mempool) == mempool.size_bytes == 0
    for index in (mempool._cheapest, mempool._arrivals, mempool._expiries, mempool._heads):
        assert len(index) < 100
    assert mempool._queues == {}


def test_what_nobody_can_put_into_a_block_is_not_ready() -> None:
    """A gap; then the missing one comes, and both are ready; then the head's time is over."""
    mempool = pool()
    put(mempool, order(A, 1))
    assert not is_ready(mempool)
    put(mempool, order(A, 0, until=100))
    assert is_ready(mempool)
    assert mempool.drop_expired(100) == 0
    assert mempool.drop_expired(101) == 1
    assert not is_ready(mempool)
    assert shown(mempool) == []
    put(mempool, order(A, 0), now=101)
    assert is_ready(mempool)
    assert shown(mempool) == [(A, 0), (A, 1)]


def test_head_that_came_back_is_ready_again() -> None:
    mempool = pool()
    put(mempool, order(A, 0), order(A, 1))
    mempool.drop(transaction_id(order(A, 0)[0]))
    assert not is_ready(mempool)
    put(mempool, order(A, 0))
    assert is_ready(mempool)
    assert shown(mempool) == [(A, 0), (A, 1)]


def test_fees_of_all_that_waits_are_covered() -> None:
    """The third would be for nothing; a replacement counts once; another account is asked alone."""
    mempool = Mempool(Accounts(lambda _: 0, lambda sender: 2_500 if sender == A else 0))
    put(mempool, order(A, 0), order(A, 1))
    with pytest.raises(InsufficientFunds, match=r"balance of 0\.0025 FTNS.* 0\.003$"):
        mempool.add(*order(A, 2), 0)
    put(mempool, order(A, 1, 1_500))
    with pytest.raises(InsufficientFunds):
        mempool.add(*order(A, 0, 1_100), 0)
    with pytest.raises(InsufficientFunds):
        mempool.add(*order(B, 0, 1), 0)
    assert shown(mempool) == [(A, 0), (A, 1)]


def test_what_a_block_made_unpayable_leaves() -> None:
    """A payment took the money the later ones were to pay their fees with."""
    balance, committed = 3_000, 0
    mempool = Mempool(Accounts(lambda _: committed, lambda _: balance))
    put(mempool, order(A, 0), order(A, 1), order(A, 2))
    balance, committed = 1_500, 1
    mempool.drop_committed([transaction_id(order(A, 0)[0])], [A])
    assert shown(mempool) == [(A, 1)]
    balance = 0
    mempool.drop_committed([], [A])
    assert not is_ready(mempool)
    assert len(mempool) == 0


def test_what_is_left_behind_a_gap_stays_in_its_bound() -> None:
    """The first of many ran out of time: as many stay as may wait behind a missing nonce."""
    mempool = pool()
    put(mempool, order(A, 0, until=5), *(order(A, nonce) for nonce in range(1, 40)))
    assert mempool.drop_expired(6) == 1 + 39 - 16
    assert mempool.next_nonce(A) == 0
    put(mempool, order(A, 0))
    assert shown(mempool) == [(A, nonce) for nonce in range(17)]


def test_ready_ids_are_those_that_have_waited() -> None:
    mempool = pool()
    put(mempool, order(A, 0), order(B, 1), now=0)
    put(mempool, order(C, 0), now=1_500)
    first = transaction_id(order(A, 0)[0])
    assert mempool.ready_ids(10, before_ms=0) == []
    assert mempool.ready_ids(10, before_ms=1_500) == [first]
    assert set(mempool.ready_ids(10, before_ms=1_501)) == {first, transaction_id(order(C, 0)[0])}


def test_state_that_was_replaced_is_looked_at_again() -> None:
    """A snapshot moved every nonce: what it holds leaves, what may follow is ready."""
    committed: dict[bytes, int] = defaultdict(int)
    mempool = Mempool(Accounts(lambda sender: committed[sender], lambda _: 10**9))
    put(mempool, order(A, 0), order(A, 1), order(B, 0), order(C, 2))
    committed |= {A: 1, B: 5, C: 2}
    mempool.recheck()
    assert shown(mempool) in ([(A, 1), (C, 2)], [(C, 2), (A, 1)])
    assert len(mempool) == 2
