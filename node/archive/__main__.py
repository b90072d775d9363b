"""`python -m prsm.node.archive --home DIR WORK FILE`: works on the files of a home, then ends.

One JSON document on standard output: the answer, or `{"error": …}` as of a JSON-RPC call. It is
started by the client, which loads no room of the daemon. Knows: arguments, exit codes, who may
use a home at the same time. Must not know: what is in a chain file or a backup.
"""

import argparse
import functools
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
import trio

from prsm.node import logs
from prsm.node.archive.chains import export_chain, import_chain
from prsm.node.home import Home
from prsm.node.rpc.errors import error_data
from prsm.node.rpc.reasons import Exit, entry_for
from prsm.protocol.errors import PrsmError

_Work = Callable[[Home, argparse.Namespace], Awaitable[object]]


def main(arguments: Sequence[str]) -> int:
    """Do one piece of work; returns the exit code.

    Args:
        arguments: without the program's name.
    """
    options = _parser().parse_args(arguments)
    logs.configure(level="warning", style="human")
    try:
        answer = trio.run(functools.partial(WORKS[options.work], Home(options.home), options))
    except KeyboardInterrupt:
        return int(Exit.INTERRUPTED)
    except PrsmError as error:
        entry = entry_for(error.reason)
        data = error_data(error, trace_id="")
        _say({"error": {"code": entry.code, "message": error.what, "data": data}})
        return int(entry.exit_code)
    _say(answer)
    return 0


async def _export(home: Home, options: argparse.Namespace) -> object:
    home.check()
    with home.hold():
        return await export_chain(home, options.file, first=options.first, last=options.last)


async def _import(home: Home, options: argparse.Namespace) -> object:
    home.check()
    with home.hold():
        return await import_chain(home, options.file)


WORKS: Final[dict[str, _Work]] = {"export": _export, "import": _import}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m prsm.node.archive", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the node's folder")
    parser.add_argument("work", choices=sorted(WORKS))
    parser.add_argument("file", type=Path, help="the file to write or to read")
    parser.add_argument("--first", type=int, default=1, help="height of the first block")
    parser.add_argument("--last", type=int, help="height of the last block; the newest if absent")
    return parser


def _say(document: object) -> None:
    sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
