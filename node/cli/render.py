"""Answers for people: aligned on a terminal, tab-separated on a pipe; never colour, never JSON.

Text of peers may hold control characters, which are shown escaped. Amounts are shown in FTNS.

Knows: shapes of JSON values, names of amount fields. Must not know: methods.
"""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from prsm.protocol.ids import format_ftns

_AMOUNTS: Final = frozenset(
    (
        *("amount", "balance", "bonded", "cost", "fee", "locked", "paid", "refunded", "supply"),
        *("stake", "stake_total", "quorum"),
    )
)
_LONG: Final = 24
_GAP: Final = 2
_COLUMNS: Final = 80  # of a terminal that does not say


def show(value: object) -> None:
    """Print any answer: an object as lines, a list of objects as a table."""
    if isinstance(value, Mapping):
        items = value.get("items")
        if isinstance(items, list) and len(value) <= _LONG and (not items or _is_table(items)):
            show_fields({name: one for name, one in value.items() if name != "items"})
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
    width = max((len(name) for name in plain), default=0)
    for name, one in plain.items():
        text = cell(name, one)
        print(f"{name:<{width}}  {text}" if sys.stdout.isatty() else f"{name}\t{text}")


def show_table(rows: object) -> None:
    """Print a list of objects, one a line, with a heading; long ids are cut on narrow terminals."""
    if not isinstance(rows, list) or not rows:
        if sys.stdout.isatty():
            print("(none)")
        return
    names = [name for name in rows[0] if not _is_table(rows[0][name])]
    table = [[cell(name, row.get(name)) for name in names] for row in rows]
    for line in _lines(names, table):
        print(line)


def cell(name: str, value: object) -> str:
    """One value as one line of printable text."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name in _AMOUNTS and isinstance(value, str) and value.isdecimal():
        return f"{format_ftns(int(value))} FTNS"
    if isinstance(value, Mapping):
        return " ".join(f"{key}={cell(str(key), one)}" for key, one in value.items()) or "-"
    if isinstance(value, list):
        return ",".join(cell(name, one) for one in value) or "-"
    text = str(value)
    return text if text.isprintable() else ascii(text)[1:-1]


def _lines(names: Sequence[str], table: Sequence[Sequence[str]]) -> Iterable[str]:
    if not sys.stdout.isatty():
        return ["\t".join(row) for row in (names, *table)]
    widths = _widths(names, table)
    if sum(widths) + _GAP * len(widths) > (columns() or _COLUMNS):
        table = [[_cut(text) for text in row] for row in table]
        widths = _widths(names, table)
    return [
        (" " * _GAP).join(text.ljust(width) for text, width in zip(row, widths, strict=True))
        for row in (names, *table)
    ]


def columns() -> int | None:
    """How many characters a line of the terminal has; None on a pipe."""
    if not sys.stdout.isatty():
        return None
    # Not shutil's: it loads bz2 and lzma for this one number.
    try:
        return os.get_terminal_size().columns or _COLUMNS
    except OSError:
        return _COLUMNS


def _widths(names: Sequence[str], table: Sequence[Sequence[str]]) -> list[int]:
    return [max(len(row[i]) for row in (names, *table)) for i in range(len(names))]


def _cut(text: str) -> str:
    return text if len(text) <= _LONG else f"{text[:10]}..{text[-6:]}"


def _is_table(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)
