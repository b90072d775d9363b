"""Answers for people: to be read on a terminal, exact and tab-separated on a pipe.

On a terminal a table shows the columns that say something and fit, the first ones first, and names
the others; `--wide` shows all. Never colour, never JSON.

Knows: shapes of JSON values, the terminal. Must not know: methods; what a field is called.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from prsm.node.cli.readable import cell, now, titles, words

_LONG: Final = 24
_PREFIX: Final = 14
_GAP: Final = "  "
_COLUMNS: Final = 80  # of a terminal that does not say
_COLUMNS_MIN: Final = 2  # of a table, however narrow the terminal
_WIDE: Final = "PRSM_WIDE"  # set by --wide, as NO_COLOR is by --no-color
_NOTHING: Final = frozenset(("", "-"))


def show(value: object) -> None:
    """Print any answer: an object as lines, a list of objects as a table."""
    if isinstance(value, Mapping):
        items = value.get("items")
        if isinstance(items, list) and len(value) <= _LONG and (not items or _is_table(items)):
            beside = {k: v for k, v in value.items() if k != "items" and v not in (None, [])}
            show_fields(beside)
            show_table(items)
            return
        show_fields(value)
        for name, one in value.items():
            if _is_table(one):
                print(f"\n{name}")
                show_table(one)
        return
    if _is_table(value):
        show_table(value)
        return
    print(cell("", value))


def show_fields(fields: Mapping[str, object]) -> None:
    """Print `name  value` lines, leaving out what is a table of its own."""
    plain = {name: one for name, one in fields.items() if not _is_table(one)}
    if not sys.stdout.isatty():
        for name, one in plain.items():
            print(f"{name}\t{cell(name, one)}")
        return
    heads = titles(plain)
    width = max(map(len, heads), default=0)
    told = now()
    for name, short in zip(plain, heads, strict=True):
        head, one = f"{short:<{width}}", plain[name]
        # Ids, addresses and sentences: each on a line of its own.
        parts = one if isinstance(one, list) and one and isinstance(one[0], str) else [one]
        for part in parts:
            print(f"{head}{_GAP}{words(name, part, now=told)}")
            head = " " * width


def show_table(rows: object) -> None:
    """Print a list of objects, one a line, with a heading."""
    if not isinstance(rows, list) or not rows:
        if sys.stdout.isatty():
            print("(none)")
        return
    names = [name for name in rows[0] if not _is_table(rows[0][name])]
    if not sys.stdout.isatty():
        for row in (names, *([cell(name, row.get(name)) for name in names] for row in rows)):
            print("\t".join(row))
        return
    for line in _drawn(names, rows):
        print(line)


def columns() -> int | None:
    """How many characters a line of the terminal has; None on a pipe."""
    if not sys.stdout.isatty():
        return None
    # Not shutil's: it loads bz2 and lzma for this one number.
    try:
        return os.get_terminal_size().columns or _COLUMNS
    except OSError:
        return _COLUMNS


def show_wide() -> None:
    """Tables of this process show all columns, whatever the terminal's width."""
    os.environ[_WIDE] = "1"


def _drawn(names: Sequence[str], rows: Sequence[Mapping[str, object]]) -> Iterator[str]:
    told, is_wide = now(), bool(os.environ.get(_WIDE))
    table = [
        [head, *(words(name, row.get(name), now=told, whole=False) for row in rows)]
        for name, head in zip(names, titles(names), strict=True)
    ]
    if is_wide:
        yield from _lines(table)
        return
    table = [column for column in table if not _NOTHING.issuperset(column[1:])] or table[:1]
    room = columns() or _COLUMNS
    if _width(table) > room:
        table = [[column[0], *map(_cut, column[1:])] for column in table]
    fitting = len(table)
    while fitting > _COLUMNS_MIN and _width(table[:fitting]) > room:
        fitting -= 1
    yield from _lines(table[:fitting])
    if fitting < len(table):
        yield f"(not shown: {', '.join(column[0] for column in table[fitting:])}; see --wide)"


def _lines(table: Sequence[Sequence[str]]) -> Iterable[str]:
    padded = [_padded(column) for column in table]
    return (_GAP.join(row).rstrip() for row in zip(*padded, strict=True))


def _padded(column: Sequence[str]) -> list[str]:
    width = max(map(len, column))
    if all(text.isdecimal() or text in _NOTHING for text in column[1:]):
        return [text.rjust(width) for text in column]
    return [text.ljust(width) for text in column]


def _width(table: Sequence[Sequence[str]]) -> int:
    return sum(max(map(len, column)) for column in table) + len(_GAP) * (len(table) - 1)


def _cut(text: str) -> str:
    if len(text) <= _LONG:
        return text
    # What begins a hash may be typed for it; peers and CIDs all begin alike.
    return text[:_PREFIX] if text.startswith("0x") else f"{text[:10]}..{text[-6:]}"


def _is_table(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)
