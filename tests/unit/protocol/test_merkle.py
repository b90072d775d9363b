"""Merkle trees of RFC 6962 against its own recursive definition."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prsm.protocol import merkle


def dumb_root(items: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, word for word."""
    if not items:
        return hashlib.sha256(b"").digest()
    if len(items) == 1:
        return hashlib.sha256(b"\x00" + items[0]).digest()
    split = 1
    while split * 2 < len(items):
        split *= 2
    left, right = dumb_root(items[:split]), dumb_root(items[split:])
    return hashlib.sha256(b"\x01" + left + right).digest()


@given(st.lists(st.binary(max_size=4), max_size=20), st.data())
def test_root_and_proofs_follow_the_definition(items: list[bytes], data: st.DataObject) -> None:
    root = merkle.root(items)
    assert root == dumb_root(items)
    if not items:
        return
    index = data.draw(st.integers(0, len(items) - 1))
    path = merkle.proof(items, index)
    assert merkle.is_included(items[index], index=index, count=len(items), path=path, expected=root)
    assert not merkle.is_included(
        items[index] + b"x", index=index, count=len(items), path=path, expected=root
    )
    assert not merkle.is_included(
        items[index], index=index, count=len(items), path=(*path, root), expected=root
    )


ITEMS = [bytes([i]) for i in range(5)]


@pytest.mark.parametrize(
    ("index", "count", "keep"), [(-1, 5, 9), (5, 5, 9), (0, 0, 9), (1, 5, 9), (0, 5, 2), (0, 5, 0)]
)
def test_other_places_and_short_paths_are_false(index: int, count: int, keep: int) -> None:
    path = merkle.proof(ITEMS, 0)[:keep]
    assert not merkle.is_included(
        ITEMS[0], index=index, count=count, path=path, expected=merkle.root(ITEMS)
    )


def test_steps_of_another_size_are_false() -> None:
    first, *rest = merkle.proof(ITEMS, 0)
    for bad in (first[:-1], first + b"x", b""):
        assert not merkle.is_included(
            ITEMS[0], index=0, count=5, path=[bad, *rest], expected=merkle.root(ITEMS)
        )


def test_odd_leaf_is_not_doubled() -> None:
    assert merkle.root(ITEMS) != merkle.root([*ITEMS, ITEMS[-1]])
