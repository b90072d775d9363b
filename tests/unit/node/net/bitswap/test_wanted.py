"""What a peer wants: bounded, cancelled, answered once."""

from prsm.node.net.bitswap.wanted import WANTS_MAX, Wanted
from prsm.node.net.bitswap.wire import Entry, Presence
from prsm.storage.cid import Cid, Codec


def cid(number: int) -> bytes:
    return Cid(Codec.RAW, number.to_bytes(32, "big")).raw


def test_wants_are_answered_once_in_order() -> None:
    wanted = Wanted()
    assert wanted.take([Entry(cid(1)), Entry(cid(2), is_have=True)], is_full=False) == []
    wanted.take([Entry(cid(1))], is_full=False)
    first, second = wanted.next(), wanted.next()
    assert first is not None
    assert second is not None
    assert (first.cid, first.is_have, first.digest) == (cid(1), False, (1).to_bytes(32, "big"))
    assert (second.cid, second.is_have) == (cid(2), True)
    assert wanted.next() is None


def test_cancelled_want_is_not_answered() -> None:
    wanted = Wanted()
    wanted.take([Entry(cid(1)), Entry(cid(2)), Entry(cid(1), is_cancel=True)], is_full=False)
    wanted.take([Entry(cid(3), is_cancel=True)], is_full=False)
    assert [want.cid for want in iter(wanted.next, None)] == [cid(2)]


def test_full_wantlist_replaces_what_waits() -> None:
    wanted = Wanted()
    wanted.take([Entry(cid(1))], is_full=False)
    wanted.take([Entry(cid(2))], is_full=True)
    assert [want.cid for want in iter(wanted.next, None)] == [cid(2)]


def test_wants_without_room_are_counted_and_refused_where_asked() -> None:
    wanted = Wanted()
    entries = [Entry(cid(number), send_dont_have=number % 2 == 0) for number in range(5_000)]
    refused = wanted.take(entries, is_full=False)
    assert len(wanted) == WANTS_MAX
    assert wanted.surplus == 5_000 - WANTS_MAX
    assert refused == [
        (cid(number), Presence.DONT_HAVE) for number in range(WANTS_MAX, 5_000) if number % 2 == 0
    ]


def test_hash_that_is_never_here_is_answered_at_once() -> None:
    wanted = Wanted()
    identity = b"\x01\x55\x00\x04four"
    assert wanted.take([Entry(identity, is_have=True), Entry(identity)], is_full=False) == [
        (identity, Presence.DONT_HAVE)
    ]
    assert len(wanted) == 0
