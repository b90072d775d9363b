"""The error registry: what each reason means, its numbers, and what to type.

Rows are in `rows`, a file for each thousand. Each entry is three lines: `reason code number exit
[retry]: what happened`, why it happens, what to type. Numbers are never used again.

Knows: words. Must not know: who raises what (errors, and the test that walks all classes).
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from prsm.node.rpc.entries import Entry, Exit, read_rows
from prsm.node.rpc.rows import (
    calls,
    chat,
    command,
    doors,
    evaluations,
    generation,
    guests,
    home,
    ledger,
    network,
    storage,
    tenancy,
    work,
)

__all__ = ["BY_NUMBER", "REGISTRY", "UNCLEAR", "Entry", "Exit", "entry_for"]

_ROWS: Final = "".join(
    part.ROWS
    for part in (
        calls,
        chat,
        command,
        doors,
        guests,
        ledger,
        work,
        evaluations,
        generation,
        network,
        storage,
        home,
        tenancy,
    )
)

REGISTRY: Final = read_rows(_ROWS)
BY_NUMBER: Final[Mapping[int, Entry]] = MappingProxyType(
    {entry.number: entry for entry in REGISTRY.values()}
)
assert len(REGISTRY) == len(BY_NUMBER), "a PRSM number is used twice"

# Refusals that leave open what the call did: its effect may still come, or has come in part.
UNCLEAR: Final = frozenset(("deadline_passed", "cancelled", "internal"))


def entry_for(reason: str) -> Entry:
    """The row of a reason; an unknown one counts as internal."""
    return REGISTRY.get(reason, REGISTRY["internal"])
