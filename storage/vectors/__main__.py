"""`python -m prsm.storage.vectors FILE DIMENSION`: the process of vectors, started by a daemon."""

import sys
from pathlib import Path

from prsm.storage.vectors.service import Service


def main() -> None:
    """Serve standard input until it is closed."""
    path, dimension = sys.argv[1:]
    Service(Path(path), dimension=int(dimension)).serve(sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
