"""`python -m prsm.storage.vectors FILE DIMENSION`: the process of vectors, started by a daemon.

What is kept in the file can be made again from its source, so a damaged one is put aside as
`.damaged` and begun anew; whoever asks finds it empty.
"""

import sys
from contextlib import suppress
from pathlib import Path

from prsm.protocol.errors import PrsmError
from prsm.storage.errors import Corrupt
from prsm.storage.vectors.service import Service, refuse


def main() -> None:
    """Serve standard input until it is closed."""
    path, dimension = Path(sys.argv[1]), int(sys.argv[2])
    calls, answers = sys.stdin.buffer, sys.stdout.buffer
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        try:
            service = Service(path, dimension=dimension)
        except Corrupt:
            for suffix in ("-wal", "-shm"):
                Path(f"{path}{suffix}").unlink(missing_ok=True)
            path.replace(f"{path}.damaged")
            service = Service(path, dimension=dimension)
    except PrsmError as error:
        refuse(error, calls, answers)
        return
    with suppress(BrokenPipeError):  # the daemon is gone
        service.serve(calls, answers)


if __name__ == "__main__":
    main()
