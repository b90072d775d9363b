"""`python3 scripts/unasync.py [--check]`: the handles of the waiting client, from the async ones.

Writes node/rpc/sdk/handles.py from ahandles.py, word by word, so that both clients follow a job,
a plan and a text alike; what differs is behind the client (`drive`, `call`, `last_words`). Run by
the interpreter of `.venv`. Source: httpcore's scripts/unasync.py.
"""

import re
import sys
from typing import Final

from generated import ROOT, formatted, keep

SOURCE: Final = ROOT / "node" / "rpc" / "sdk" / "ahandles.py"
FILE: Final = SOURCE.with_name("handles.py")
_WORDS: Final = (
    (r"\ban `async ", "a `"),
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\bAsync(Client|Job|Plan|Generation)\b", r"\1"),
    (r"\b__a(iter|next|enter|exit)__\b", r"__\1__"),
    (r"\bStopAsyncIteration\b", "StopIteration"),
    (r"\baclose\b", "close"),
    (r"\baclient\b", "client"),
    (r"\bthe client of an event loop\b", "the client that waits"),
)
_LEFT: Final = re.compile(r"async|await|anyio", re.IGNORECASE)


def waiting(text: str) -> str:
    """The text with every word of an event loop replaced.

    Raises:
        ValueError: a word is left that the table does not know.
    """
    for pattern, word in _WORDS:
        text = re.sub(pattern, word, text)
    if left := _LEFT.search(text):
        raise ValueError(f"{left.group()} is left: {text[left.start() - 40 : left.end() + 20]!r}")
    docstring, end, rest = text.partition('\n"""\n')
    return f"{docstring}{end}\n# Written by scripts/unasync.py from {SOURCE.name}.\n{rest}"


def written() -> str:
    """The file as it should be, formatted."""
    return formatted(FILE, waiting(SOURCE.read_text()))


def main() -> None:
    """Write it, or with `--check` only say whether it is current."""
    command = ".venv/bin/python scripts/unasync.py"
    keep(FILE, written(), command=command, only_check="--check" in sys.argv[1:])


if __name__ == "__main__":
    main()
