"""A daemon as a process: arguments, password, logs, exit code. The command line is in node/cli.

Knows: how a start can fail and how to say so. Must not know: rooms of the daemon.
"""

import argparse
import functools
import gc
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import trio

from prsm.node.clock import Clock, TrioClock
from prsm.node.config.load import load
from prsm.node.config.schema import LogConfig
from prsm.node.home import Home, default_home
from prsm.node.net.interface import Network
from prsm.node.net.thin import import_libp2p
from prsm.node.rpc.reasons import Exit, entry_for
from prsm.node.telemetry import logs
from prsm.node.telemetry.logfile import RotatingFile
from prsm.node.telemetry.notify import Notifier
from prsm.protocol.errors import LocalError, PrsmError

import_libp2p()
from prsm.node.daemon import run_daemon  # noqa: E402 - it imports libp2p too, as it is then
from prsm.node.work.workshop import Start  # noqa: E402 - the same

WORKER: Final = (sys.executable, "-m", "prsm.node.worker")


def main(
    arguments: Sequence[str],
    *,
    worker_command: Sequence[str] = WORKER,
    make_clock: Callable[[Home], Clock] = lambda _home: TrioClock(),
    around: Callable[[Home, Network], Network] = lambda _home, network: network,
) -> int:
    """Run a daemon until it is stopped; returns the exit code.

    Args:
        arguments: without the program's name.
        worker_command: the program that runs models.
        make_clock: what time it is for the node of a home.
        around: what stands between agreement and the network of a home's node; nothing.
    """
    parser = argparse.ArgumentParser(prog="python -m prsm.node", description=__doc__)
    parser.add_argument("--home", type=Path, help="data folder; else PRSM_HOME, or where one lies")
    parser.add_argument("--password-fd", type=int, help="read the wallet's password from here")
    options = parser.parse_args(arguments)
    home = Home(options.home.absolute()) if options.home else default_home(os.environ)
    try:
        home.check()
        config = load(home.config, environ=os.environ).config
        _begin_log(home, config.log)
        named = config.keys.password_file
        file = home.root / Path(named).expanduser() if named else None
        password = read_password(options.password_fd, file)
        start = Start(
            *(home, config, password, worker_command, make_clock(home), around),
            notifier=Notifier.from_environ(os.environ),
        )
        while trio.run(functools.partial(run_daemon, start)):
            # Its disk takes writes again: everything is read from there anew. What it held was
            # frozen once it was up and lies in cycles, so no collection would ever free it.
            gc.unfreeze()
            gc.collect()
    except KeyboardInterrupt:  # before the daemon listens to signals
        return int(Exit.INTERRUPTED)
    except BaseException as error:  # noqa: ASYNC103 - outside trio: groups of known errors are said
        known = _first_known(error)
        if known is None:
            raise
        return _report(known)  # noqa: ASYNC104 - as above
    finally:
        logs.finish()
    return 0


def _begin_log(home: Home, config: LogConfig) -> None:
    file = RotatingFile(home.log, bytes_max=config.rotate_bytes, keep=config.keep)
    logs.configure(level=config.level, style=config.format, file=file)


def read_password(descriptor: int | None, path: Path | None) -> str | None:
    """The wallet's password from a descriptor or a private file; None if neither is given.

    Raises:
        LocalError: descriptor or file cannot be read, or others may read the file.
    """
    if descriptor is not None:
        try:
            with os.fdopen(descriptor, "r", encoding="utf-8") as file:
                return file.readline().rstrip("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise LocalError(
                f"--password-fd {descriptor} cannot be read: {error}",
                hint="open the descriptor before the start, such as 3<FILE --password-fd 3",
            ) from error
    if path is None:
        return None
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LocalError(
            f"keys.password_file {path} cannot be read: {error}",
            hint="write the password into it, or remove the key from config.toml",
        ) from error
    if mode & 0o077:
        raise LocalError(
            f"{path} has mode {mode & 0o777:04o}, at most 0600", hint=f"chmod 600 {path}"
        )
    return text.rstrip("\n")


def _first_known(error: BaseException) -> PrsmError | None:
    """The first of the typed errors in a group that holds nothing else: a start that failed."""
    found = list(_leaves(error))
    known = [leaf for leaf in found if isinstance(leaf, PrsmError)]
    return known[0] if len(known) == len(found) else None


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if not isinstance(error, BaseExceptionGroup):
        yield error
        return
    for inner in error.exceptions:
        yield from _leaves(inner)


def _report(error: PrsmError) -> int:
    entry = entry_for(error.reason)
    lines = [error.what, entry.why, error.hint or entry.fix]
    print(f"prsm: {lines[0]}", *lines[1:], entry.prsm_code, sep="\n", file=sys.stderr)  # noqa: T201 - the last words of a process
    return int(entry.exit_code)
