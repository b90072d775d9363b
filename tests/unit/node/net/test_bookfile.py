"""The address book as bytes: the same book again, and nothing of what was changed on the way."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prsm.node.net.addresses import (
    BUCKET_SIZE,
    NEW_BUCKETS,
    TRIED_BUCKETS,
    AddressBook,
    Entry,
    Kind,
)
from prsm.node.net.bookfile import BOOK_BYTES_MAX, VERSION, from_bytes, to_bytes
from prsm.protocol.codec import decode_value, encode
from prsm.protocol.errors import WireError
from prsm.protocol.signing import sha256
from tests.tools.crowds import KEY, NOW_MS, known, place


def sample() -> AddressBook:
    book = known([place(n) for n in range(40)], dice=random.Random(1))
    for number in range(100, 160):
        book.learn(place(number), source="8.8", kind=Kind.MDNS, now_ms=NOW_MS)
    book.failed(place(3).text, now_ms=NOW_MS)
    book.note(place(4).text, region="eu")
    book.set_anchors([place(1).text, place(2).text])
    return book


def rows(book: AddressBook) -> dict[str, Entry]:
    return {entry.place.text: entry for entry in book}


def test_book_survives_bytes() -> None:
    book = sample()
    again = from_bytes(to_bytes(book), us=None, now_ms=NOW_MS)
    assert rows(again) == rows(book)
    assert again.anchors == book.anchors
    assert again.key == book.key
    assert to_bytes(again) == to_bytes(book)


def test_empty_book_survives_bytes() -> None:
    again = from_bytes(to_bytes(AddressBook(KEY)), us=None, now_ms=NOW_MS)
    assert len(again) == 0
    assert again.anchors == ()


def test_full_book_fits_its_bound() -> None:
    """The largest book there can be, with the longest address."""
    full = NEW_BUCKETS * BUCKET_SIZE + TRIED_BUCKETS * BUCKET_SIZE
    row = 120 + 64 + 32 + 60
    assert full * row < BOOK_BYTES_MAX


def test_own_address_is_left_out_after_a_change_of_key() -> None:
    again = from_bytes(to_bytes(sample()), us=place(5).peer, now_ms=NOW_MS)
    assert again.get(place(5).text) is None


def test_times_in_the_future_become_now() -> None:
    again = from_bytes(to_bytes(sample()), us=None, now_ms=NOW_MS - 1_000)
    assert {entry.last_success_ms for entry in again.tried()} == {NOW_MS - 1_000}


@pytest.mark.parametrize("cut", [0, 1, 31, 32, 40, -1])
def test_torn_file_is_refused(cut: int) -> None:
    with pytest.raises(WireError):
        from_bytes(to_bytes(sample())[:cut], us=None, now_ms=NOW_MS)


def forged(**changes: object) -> bytes:
    """The sample with fields replaced, under a hash that fits."""
    value = decode_value(to_bytes(sample())[32:], size_max=BOOK_BYTES_MAX)
    assert isinstance(value, tuple)
    names = ("version", "key", "anchors", "tried", "new")
    raw = encode(tuple(changes.get(name, old) for name, old in zip(names, value, strict=True)))
    return sha256(raw) + raw


ROW = (place(1).text, "s", 1, 0, 0, 0, 0, 0, 0, "")


def test_forged_rows_can_be_read_when_they_are_good() -> None:
    assert len(from_bytes(forged(tried=(), new=(ROW,)), us=None, now_ms=NOW_MS)) == 1


def test_row_that_never_answered_is_not_tried_whatever_it_says() -> None:
    book = from_bytes(forged(tried=(ROW,), new=(ROW,)), us=None, now_ms=NOW_MS)
    assert book.tried() == []
    assert len(book) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"version": VERSION + 1},
        {"key": b"short"},
        {"anchors": (place(1).text,) * 3},
        {"anchors": ("/ip4/1.2.3.4",)},
        {"new": (("/ip4/0.0.0.0/tcp/1/p2p/x", *ROW[1:]),)},
        {"new": ((*ROW[:1], "s" * 65, *ROW[2:]),)},
        {"new": ((*ROW[:2], 9, *ROW[3:]),)},
        {"new": ((*ROW[:3], -1, *ROW[4:]),)},
        {"new": ((*ROW, 1),)},
        {"tried": (ROW,) * (TRIED_BUCKETS * BUCKET_SIZE + 1)},
    ],
)
def test_forged_file_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(WireError):
        from_bytes(forged(**changes), us=None, now_ms=NOW_MS)


def test_file_beyond_its_bound_is_refused_unread() -> None:
    with pytest.raises(WireError, match="at most"):
        from_bytes(b"\0" * (BOOK_BYTES_MAX + 1), us=None, now_ms=NOW_MS)


@given(st.binary(max_size=300))
def test_junk_is_refused_by_one_error(junk: bytes) -> None:
    for raw in (junk, sha256(junk) + junk):
        with pytest.raises(WireError):
            from_bytes(raw, us=None, now_ms=NOW_MS)
