"""`python3 scripts/unasync.py [--check]`: the handles of the waiting client, from the async ones.

Writes node/rpc/sdk/handles.py from ahandles.py, word by word, so that both clients follow a job,
a plan and a text alike; what differs is behind the client (`drive`, `call`, `last_words`). Run by
the interpreter of `.venv`. Source: httpcore's scripts/unasync.py.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
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
    ruff = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(FILE), "-"]
    text = waiting(SOURCE.read_text())
    done = subprocess.run(ruff, input=text, capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout


def main() -> None:
    """Write it, or with `--check` only say whether it is current."""
    text = written()
    if FILE.exists() and FILE.read_text() == text:
        print(f"{FILE.name} is current")
    elif "--check" in sys.argv[1:]:
        sys.exit(f"error: {FILE.name} is not current: try .venv/bin/python scripts/unasync.py")
    else:
        FILE.write_text(text)
        print(f"{FILE.name} written")


if __name__ == "__main__":
    main()
