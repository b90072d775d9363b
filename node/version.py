"""The version of this program, and the oldest client it serves."""

import functools
from pathlib import Path
from typing import Final

VERSION: Final = "0.1.0"  # as in pyproject.toml; a test compares them
CLIENT_MIN: Final = "0.1.0"
_EXPORTED: Final = "$Format:%h$"  # git writes the commit here when an archive is made of one
_SHOWN: Final = 12  # hex digits that tell commits apart


@functools.cache
def commit() -> str:
    """The commit this program was made of, `unknown` where nobody said."""
    if not _EXPORTED.startswith("$"):
        return _EXPORTED[:_SHOWN]
    git = Path(__file__).resolve().parent.parent / ".git"
    try:
        head = (git / "HEAD").read_text(encoding="ascii").strip()
        reference = head.removeprefix("ref: ")
        found = head if reference == head else (git / reference).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return "unknown"
    return found.strip()[:_SHOWN] or "unknown"
