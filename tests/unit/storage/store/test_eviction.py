"""What goes first: heat, its order, and a choice that removes no more than is needed."""

import pytest

from prsm.storage.cid import hash_block
from prsm.storage.store.eviction import Judged, Uses, choose
from prsm.storage.store.index import Use

A, B, C = (hash_block(name) for name in (b"a", b"b", b"c"))


def test_heat_of_many_uses_is_more_than_that_of_a_late_one() -> None:
    uses = Uses()
    for now in range(20):
        uses.touch(A, now)
    uses.touch(B, 20)
    assert uses.of(A).heat > uses.of(B).heat > uses.of(C).heat == 0
    assert (uses.of(A).used_ms, uses.of(B).used_ms) == (19, 20)


def test_heat_of_long_ago_is_less_than_that_of_now() -> None:
    uses = Uses()
    for now in range(4):
        uses.touch(A, now)
    for now in range(20_000):
        uses.touch(b"other", now)
    uses.touch(B, 99)
    assert uses.of(B).heat > uses.of(A).heat


def test_uses_go_on_where_they_were_noted() -> None:
    uses = Uses()
    for now in range(5000):
        uses.touch(A, now)
    again = Uses()
    again.load({A: uses.of(A)})
    again.touch(B, 1)
    again.touch(B, 2)
    again.touch(B, 3)
    assert again.of(B).heat > uses.of(A).heat - 13  # log2(5000) uses: not forgotten, not for ever
    assert again.now >= uses.of(A).heat


def test_reads_close_together_are_one_use_and_yet_new() -> None:
    uses = Uses()
    first = uses.touch(A, 1000, apart_ms=60_000)
    epoch = uses.now
    assert not uses.is_since(A, epoch)
    assert uses.touch(A, 60_999, apart_ms=60_000) == first
    assert uses.is_since(A, epoch)
    assert uses.touch(A, 61_000, apart_ms=60_000).heat > first.heat
    assert uses.touch(A, 5, apart_ms=60_000).used_ms == 5  # the wall clock was set back


def test_unsaved_uses_are_handed_out_once() -> None:
    uses = Uses()
    uses.touch(A, 1)
    uses.touch(b"digest", 2)
    uses.touch_known(b"unknown", 3)
    files, blocks = uses.take_unsaved()
    assert (list(files), list(blocks)) == ([A], [b"digest"])
    assert uses.take_unsaved() == ({}, {})
    uses.touch(A, 3)
    uses.forget(A)
    assert uses.take_unsaved() == ({}, {})
    assert uses.of(A) == Use()


@pytest.mark.parametrize(
    ("target", "gone"), [(60, []), (59, ["a"]), (50, ["a"]), (49, ["a", "c"]), (0, ["a", "c"])]
)
def test_choice_takes_the_coldest_and_no_more_than_needed(target: int, gone: list[str]) -> None:
    held = [
        Judged(C, 20, 2.0),
        Judged(A, 10, 1.0),
        Judged(B, 30, 0.5, "pinned as x"),
    ]
    choice = choose(held, used_bytes=60, target_bytes=target)
    by_name = {A: "a", B: "b", C: "c"}
    assert [by_name[one.key] for one in choice.gone if not isinstance(one.key, bytes)] == gone
    assert choice.freed_bytes == sum(one.size for one in choice.gone)
    assert len(choice.gone) + len(choice.kept) == 3
    assert "pinned as x" in {one.why for one in choice.kept}
    assert all(one.why for one in [*choice.gone, *choice.kept])
