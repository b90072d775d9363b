"""Installs the js-libp2p peer that interop tests talk to; never needed to run the product.

82 packages of npm, 35 MB, ten seconds, into `tests/interop/libp2p/node_modules`, which git ignores:
the exact files of the `package-lock.json` there, by hash, without running their install scripts.
Without it the tests marked `net` skip and say so.

    python scripts/libp2p_peer.py
"""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

SECONDS_MAX: Final = 180  # a machine without a network finds out by itself after a minute or two
FOLDER: Final = Path(__file__).parents[1] / "tests" / "interop" / "libp2p"


def main() -> int:
    """Install; returns the exit code."""
    npm = shutil.which("npm")
    if npm is None:
        print("npm is not here: install Node 20 or later first")
        return 1
    if (FOLDER / "node_modules" / ".package-lock.json").exists():
        print("js-libp2p is installed")
        return 0
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        return subprocess.run(command, cwd=FOLDER, check=False, timeout=SECONDS_MAX).returncode
    except subprocess.TimeoutExpired:
        print(f"npm did not get the packages in {SECONDS_MAX} s")
        return 1


if __name__ == "__main__":
    sys.exit(main())
