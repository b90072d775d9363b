"""`.venv/bin/python scripts/duplication.py`: how much of the shipped code stands in it twice.

Counts with pylint's `symilar`: runs of six lines and more that are the same but for comments,
docstrings, imports and signatures. Prints each run and the share of all lines; exit code 1 above
the limit. Knows the folders and the limit. Must not know what a run is: that is the tool's.
"""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
PERCENT_MAX: Final = 3.0
LINES_MIN: Final = 6
_FOLDERS: Final = ("protocol", "consensus", "storage", "node", "testnet", "scripts")
_IGNORED: Final = ("comments", "docstrings", "imports", "signatures")
_TOTAL: Final = re.compile(r"^TOTAL lines=(\d+) duplicates=(\d+) percent=([\d.]+)$", re.MULTILINE)


def count(files: Sequence[Path]) -> tuple[str, float]:
    """The tool's report of these files, and the percentage of lines it ends with.

    Raises:
        RuntimeError: the tool is not there, or ended without a total.
    """
    tool = str(Path(sys.executable).parent / "symilar")
    command = [tool, f"--duplicates={LINES_MIN}", *(f"--ignore-{part}" for part in _IGNORED)]
    try:
        done = subprocess.run(
            [*command, *map(str, files)], capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise RuntimeError("pylint is not installed: try python3 scripts/test.py") from error
    found = _TOTAL.search(done.stdout)
    if found is None:
        raise RuntimeError(f"symilar printed no total: {done.stderr.strip()[-200:]}")
    return done.stdout.strip(), float(found[3])


def main() -> None:
    """Run the tool over every Python file of the folders; print what it says."""
    files = [
        path
        for folder in _FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not path.is_symlink()
    ]
    try:
        report, percent = count(files)
    except RuntimeError as error:
        sys.exit(f"error: {error}")
    print(report)
    print(f"{percent} % of the lines of {len(files)} files are repeated, at most {PERCENT_MAX} %")
    sys.exit(percent > PERCENT_MAX)


if __name__ == "__main__":
    main()
