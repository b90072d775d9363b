"""What faults did: how each went, and the book of those that were carried out.

Knows: kinds of faults, places. Must not know: how a fault is carried out.
"""

from pathlib import Path
from typing import Final

import msgspec

from prsm.testnet import books
from prsm.testnet.faults import Kind

BOOK: Final = "perturbed.jsonl"


class Outcome(msgspec.Struct, frozen=True):
    """One fault as it went.

    Attributes:
        at_s: since the first one began.
        seconds: it lasted.
        cut_off: places that nobody could show a new block.
        minority_commits: blocks that appeared there all the same.
        heal_ms: until a write, handed in once it was over where it had acted, was durable there.
        note: for a person.
    """

    kind: Kind
    places: tuple[int, ...]
    at_s: float
    seconds: float
    cut_off: tuple[int, ...] = ()
    minority_commits: int = 0
    heal_ms: float | None = None
    note: str = ""


class Done(msgspec.Struct, frozen=True):
    """A line of the book: a fault that was carried out."""

    number: int  # from 1; of a fault of the manifest, as in the file
    outcome: Outcome


def done(folder: Path) -> list[Done]:
    """The faults of a network's folder that were carried out."""
    return books.read(folder / BOOK, Done)


def note_done(folder: Path, number: int, outcome: Outcome) -> None:
    """Write down that a fault was carried out."""
    books.add(folder / BOOK, Done(number, outcome))
