"""Books of a run: what was written is read, but for the line a killed process was writing."""

from pathlib import Path

import msgspec

from prsm.testnet import books


class Line(msgspec.Struct, frozen=True):
    """A record."""

    number: int


def test_lines_are_read_in_order_and_a_torn_one_is_left_out(tmp_path: Path) -> None:
    """A torn line in the middle: a later process went on behind it."""
    path = tmp_path / "book.jsonl"
    assert books.read(path, Line) == []
    books.add(path, Line(1))
    with path.open("ab") as file:
        file.write(b'{"num\n')
    books.add(path, Line(2))
    assert books.read(path, Line) == [Line(1), Line(2)]
