"""`python -m prsm.node.archive --home DIR WORK FILE`: works on the files of a home, then ends.

One JSON document on standard output: the answer, or `{"error": …}` as of a JSON-RPC call. It is
started by the client, which loads no room of the daemon. Knows: arguments, exit codes, who may
use a home at the same time. Must not know: what is in a chain file or a backup.
"""

import argparse
import functools
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
import trio

from prsm.node.archive.backups import create_backup, restore_backup
from prsm.node.archive.chains import export_chain, import_chain
from prsm.node.archive.resume import resume_signing
from prsm.node.callers.audit import check_files
from prsm.node.holder import DESTROY
from prsm.node.home import Home, HomeLocked
from prsm.node.rpc.errors import error_data
from prsm.node.rpc.reasons import Exit, entry_for
from prsm.node.telemetry import logs
from prsm.protocol.errors import LocalError, PrsmError
from prsm.storage.errors import Corrupt

_Work = Callable[[Home, argparse.Namespace], Awaitable[object]]


def main(arguments: Sequence[str]) -> int:
    """Do one piece of work; returns the exit code.

    Args:
        arguments: without the program's name.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    needed = {"audit": options.home, "resume": options.height}.get(options.work, options.file)
    if needed is None:
        parser.error("resume takes --height, all other work but audit takes a file")
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
    with home.hold("prsm chain export"):
        return await export_chain(home, options.file, first=options.first, last=options.last)


async def _import(home: Home, options: argparse.Namespace) -> object:
    home.check()
    with home.hold("prsm chain import"):
        return await import_chain(home, options.file)


async def _backup(home: Home, options: argparse.Namespace) -> object:
    home.check()
    password = _password(options.password_fd)
    try:
        with home.hold("prsm backup"):
            return await create_backup(home, options.file, password=password, is_running=False)
    except HomeLocked:
        holder = home.holder()
        if holder is not None and holder.work == DESTROY:
            raise  # a part of it may be gone
        # The daemon has the ledger open: a consistent copy is taken beside it.
        return await create_backup(home, options.file, password=password, is_running=True)


async def _restore(home: Home, options: argparse.Namespace) -> object:
    keys = None if options.keys_password_fd is None else _password(options.keys_password_fd)
    return await restore_backup(
        home,
        options.file,
        password=_password(options.password_fd),
        keys_password=keys,
        is_rehearsal=options.verify,
    )


async def _resume(home: Home, options: argparse.Namespace) -> object:
    home.check()
    with home.hold("prsm consensus unsafe-resume"):
        return await resume_signing(home, options.height)


async def _audit(home: Home, _options: argparse.Namespace) -> object:
    home.check()
    verdict = await trio.to_thread.run_sync(check_files, home.data)
    if verdict.broken_at:
        raise Corrupt(
            f"the audit log is broken at line {verdict.broken_at}: {verdict.why}",
            hint="compare it with a backup, and with its anchors: prsm audit verify",
        )
    return {"first": verdict.first, "last": verdict.root.seq, "root": verdict.root.hash}


WORKS: Final[dict[str, _Work]] = {
    "export": _export,
    "import": _import,
    "backup": _backup,
    "restore": _restore,
    "resume": _resume,
    "audit": _audit,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m prsm.node.archive", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the node's folder")
    parser.add_argument("work", choices=sorted(WORKS))
    parser.add_argument("file", type=Path, nargs="?", help="the file to write or to read")
    parser.add_argument("--first", type=int, default=1, help="height of the first block")
    parser.add_argument("--last", type=int, help="height of the last block; the newest if absent")
    parser.add_argument("--height", type=int, help="the first one to sign at, for resume")
    parser.add_argument("--password-fd", type=int, help="read the backup's password from here")
    parser.add_argument("--keys-password-fd", type=int, help="and that of its keys from here")
    parser.add_argument("--verify", action="store_true", help="check a backup, make no home")
    return parser


def _password(descriptor: int | None) -> str:
    if descriptor is None:
        raise LocalError("a backup has a password", hint="--password-fd N")
    try:
        with os.fdopen(descriptor, "r", encoding="utf-8") as file:
            return file.readline().rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise LocalError(f"--password-fd {descriptor} cannot be read: {error}") from error


def _say(document: object) -> None:
    sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    logs.configure(level="warning", style="human")
    sys.exit(main(sys.argv[1:]))
