"""The shape of a row of the error registry, and how it is read from three lines of text.

Must not know: which errors there are (`reasons`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType


class Exit(IntEnum):
    """What a process of ours tells its caller."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    FORBIDDEN = 4
    DEADLINE = 5
    UNVERIFIED = 6
    INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Entry:
    """One row: `title` what, `why` why it happens, `fix` what to type."""

    reason: str
    code: int
    number: int
    exit_code: Exit
    retryable: bool
    title: str
    why: str
    fix: str

    @property
    def prsm_code(self) -> str:
        """The number people quote: `PRSM-1003`."""
        return f"PRSM-{self.number:04d}"


def read_rows(rows: str) -> Mapping[str, Entry]:
    """Read entries of three lines each: head and title, why, what to type."""
    lines = [line.strip() for line in rows.splitlines() if line.strip()]
    entries: dict[str, Entry] = {}
    for first, why, fix in zip(*(lines[i::3] for i in range(3)), strict=True):
        head, _, title = first.partition(": ")
        reason, code, number, exit_name, *retry = head.split()
        exit_code = Exit[exit_name.upper()]
        assert reason not in entries, reason
        entries[reason] = Entry(
            reason, int(code), int(number), exit_code, retry == ["retry"], title, why, fix
        )
    return MappingProxyType(entries)
