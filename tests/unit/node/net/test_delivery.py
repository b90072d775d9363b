"""What arrived and what is missing, by sequence numbers: order, restarts, jumps, the window."""

import random

from hypothesis import given
from hypothesis import strategies as st

from prsm.node.net.delivery import AUTHORS_MAX, LATE_MS, WINDOW, Topic

A = b"a" * 32


def see(topic: Topic, sequence: int, made_ms: int = 0, delay_ms: int = 5) -> None:
    made_ms = made_ms or 1_000 * sequence
    topic.see(A, sequence=sequence, made_ms=made_ms, arrived_ms=made_ms + delay_ms, repaired=False)


def test_gap_is_missing_until_it_is_filled() -> None:
    topic = Topic()
    for sequence in (1, 2, 5):
        see(topic, sequence)
    assert (topic.authors[A].seen, topic.authors[A].missing) == (3, 2)
    for sequence in (4, 3, 3, 5):
        see(topic, sequence)
    assert (topic.authors[A].seen, topic.authors[A].missing) == (5, 0)


def test_newcomer_misses_nothing_of_before_unless_it_gets_some_of_it() -> None:
    topic = Topic()
    see(topic, 100)
    assert topic.authors[A].missing == 0
    see(topic, 98)
    assert topic.authors[A].missing == 1


def test_restarted_author_counts_anew_and_keeps_its_losses() -> None:
    topic = Topic()
    for sequence in (1, 3):
        see(topic, sequence)
    see(topic, 1, made_ms=50_000)
    see(topic, 2, made_ms=51_000)
    assert (topic.authors[A].seen, topic.authors[A].missing) == (4, 1)


def test_author_that_jumps_is_no_burden() -> None:
    topic = Topic()
    see(topic, 1)
    see(topic, 2**62, made_ms=5_000)
    assert topic.authors[A].missing == 0


def test_losses_older_than_the_window_stay_counted() -> None:
    topic = Topic()
    for sequence in range(1, 3 * WINDOW):
        if sequence % 1_000:
            see(topic, sequence)
    assert topic.authors[A].missing == (3 * WINDOW - 1) // 1_000


def test_delays_and_late_ones() -> None:
    topic = Topic()
    for sequence in range(1, 101):
        see(topic, sequence, delay_ms=sequence if sequence < 100 else LATE_MS + 1)
    assert (topic.delay_ms(50), topic.delay_ms(99)) == (51, LATE_MS + 1)
    assert topic.authors[A].late == 1
    assert Topic().delay_ms(50) is None


def test_authors_are_bounded() -> None:
    topic = Topic()
    for number in range(AUTHORS_MAX + 10):
        author = number.to_bytes(32, "big")
        topic.see(author, sequence=1, made_ms=1, arrived_ms=1, repaired=True)
    assert len(topic.authors) == AUTHORS_MAX


@given(st.sets(st.integers(1, 300), min_size=1), st.integers(0, 2**32))
def test_any_order_counts_the_same(sequences: set[int], seed: int) -> None:
    order = sorted(sequences)
    random.Random(seed).shuffle(order)
    topic = Topic()
    for sequence in order:
        see(topic, sequence)
    author = topic.authors[A]
    assert author.seen == len(sequences)
    assert author.missing == max(sequences) - min(sequences) + 1 - len(sequences)
