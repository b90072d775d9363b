"""What a client may believe: weight f+ of equal words, refusals that count once."""

from prsm.protocol.ids import PeerId
from prsm.protocol.messages.notices import Included, Refused
from prsm.testnet.bench.book import Book

A, B, C, D = (PeerId(name) for name in "abcd")
HASH, OTHER = b"h" * 32, b"o" * 32


def book() -> Book:
    return Book(dict.fromkeys((A, B, C, D), 10))


def included(block_hash: bytes, *tx_ids: bytes, failed: tuple[int, ...] = ()) -> Included:
    return Included(3, block_hash, tx_ids, failed)


def test_final_when_weight_f_plus_said_the_same_block() -> None:
    """One validator's word is not enough, nor two different ones; the second equal one is."""
    kept = book()
    tx_id = kept.enter(b"raw", 1.0)
    assert kept.hear_included(A, included(HASH, tx_id), 2.0) == []
    assert kept.hear_included(B, included(OTHER, tx_id), 3.0) == []
    assert kept.hear_included(C, included(HASH, tx_id, failed=(0,)), 4.0) == [tx_id]
    ticket = kept.tickets[tx_id]
    assert (ticket.final_s, ticket.height, ticket.failed, kept.open, kept.final) == (
        4.0,
        3,
        True,
        0,
        1,
    )
    assert kept.hear_included(D, included(HASH, tx_id), 5.0) == []
    assert kept.final == 1


def test_strangers_and_unknown_transactions_count_nothing() -> None:
    """A peer without stake says nothing; a transaction never sent is ignored."""
    kept = book()
    tx_id = kept.enter(b"raw", 1.0)
    for _ in range(3):
        assert kept.hear_included(PeerId("x"), included(HASH, tx_id, b"?" * 32), 2.0) == []
    assert kept.open == 1


def test_refused_by_weight_f_plus_is_sent_again_when_its_time_comes() -> None:
    """One refusal is nothing; two count once, and the bytes come back after the time they name."""
    kept = book()
    tx_id = kept.enter(b"raw", 1.0)
    full = Refused("mempool_full", 500, (tx_id,))
    for peer in (A, B, C):
        assert kept.hear_refused(peer, full, 2.0) == []
    assert kept.refused == {"mempool_full": 1}
    assert kept.due_again(2.4, 10) == []
    assert kept.due_again(2.5, 10) == [b"raw"]
    assert kept.due_again(9.0, 10) == []
    assert (kept.tickets[tx_id].due_s, kept.open) == (2.5, 1)


def test_refused_for_good_is_given_up() -> None:
    """A refusal without a time: lost, and counted by its reason."""
    kept = book()
    tx_id = kept.enter(b"raw", 1.0)
    never = Refused("bad_nonce", 0, (tx_id,))
    assert kept.hear_refused(A, never, 2.0) == []
    assert kept.hear_refused(B, never, 2.0) == [tx_id]
    assert (kept.lost, kept.open) == ({"bad_nonce": 1}, 0)
