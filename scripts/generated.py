"""Files of the repository that programs write: current, written anew, or only said to be stale."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def keep(path: Path, text: str, *, command: str, only_check: bool) -> None:
    """Write the file if it differs, and say which it was.

    Args:
        path: of the file; its folder is made.
        text: as it should be.
        command: that writes it, for who is told that it is stale.
        only_check: write nothing; a stale file ends the program with one line and exit 1.
    """
    if path.exists() and path.read_text() == text:
        print(f"{path.name} is current")
    elif only_check:
        sys.exit(f"error: {path.name} is not current: try {command}")
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(f"{path.name} written")


def formatted(path: Path, text: str) -> str:
    """Python text as ruff formats the file of this path."""
    ruff = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(path), "-"]
    done = subprocess.run(ruff, input=text, capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout
