"""The file of the address book: whole or put aside, private, written by a thread."""

import random
from pathlib import Path

import pytest

from prsm.node.net.addresses import AddressBook
from prsm.node.peers.bookshelf import DAMAGED, load_book, save_book
from tests.tools.crowds import NOW_MS, known, place

US = place(99).peer


def load(path: Path | None) -> AddressBook:
    return load_book(path, us=US, now_ms=NOW_MS, dice=random.Random(1))


async def test_book_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "net" / "addresses"
    book = known([place(n) for n in range(9)])
    assert await save_book(path, book)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert {entry.place for entry in load(path)} == {place(n) for n in range(9)}
    assert list(path.parent.iterdir()) == [path], "no temporary file stays"


def test_no_file_is_an_empty_book_with_a_key_of_its_own(tmp_path: Path) -> None:
    assert len(load(tmp_path / "absent")) == len(load(None)) == 0
    other = load_book(None, us=US, now_ms=NOW_MS, dice=random.Random(2))
    assert other.key != load(None).key


@pytest.mark.parametrize("damage", [b"", b"junk", b"\0" * 100])
def test_damaged_file_is_put_aside_and_costs_no_start(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "addresses"
    path.write_bytes(damage)
    assert len(load(path)) == 0
    assert not path.exists()
    assert (tmp_path / f"addresses{DAMAGED}").read_bytes() == damage


def test_file_that_cannot_be_read_costs_no_start(tmp_path: Path) -> None:
    assert len(load(tmp_path)) == 0, "a folder in its place"


async def test_disk_that_refuses_is_no_crash(tmp_path: Path) -> None:
    (tmp_path / "net").write_text("a file where the folder should be")
    assert not await save_book(tmp_path / "net" / "addresses", known([place(1)]))
