"""Start, stop and restart a node's program, with the labs of a development network around it.

Knows: the folder, the daemon's command line, its open pages. Must not know: rooms of the daemon;
`python -m prsm.node` is started by name.
"""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

import click
import msgspec

from prsm.node.cli import labs
from prsm.node.cli.failures import Usage
from prsm.node.cli.passwords import ask_password, given_password, password_options
from prsm.node.cli.session import POLL_S, Session, pass_session, pause
from prsm.node.config import Config, load
from prsm.node.holder import Holder
from prsm.node.home import Home, default_home
from prsm.node.listeners import find_listener
from prsm.node.rpc.client import Client, Endpoint, find
from prsm.node.rpc.errors import CallTimeout, NodeUnreachable, PortTaken
from prsm.node.rpc.faults import fault_told
from prsm.node.rpc.ports import ask_alive, describe_holder
from prsm.node.rpc.reasons import BY_NUMBER, Exit
from prsm.protocol.errors import LocalError, PrsmError

DAEMON: Final = "prsm.node"
_LOG_TAIL_BYTES: Final = 2_000
_NUMBER: Final = re.compile(r"PRSM-(\d{4})")


class StartFailed(LocalError):
    """The daemon ended before it was ready; the text has its last words."""

    reason = "start_failed"


@dataclass(frozen=True, slots=True)
class Launch:
    """How the daemon is to be started.

    Attributes:
        command: of the program, without the password's descriptor.
        environ: with the overridden keys.
        descriptor: where the password is read from; None if there is none.
    """

    command: tuple[str, ...]
    environ: dict[str, str]
    descriptor: int | None

    @property
    def words(self) -> list[str]:
        """The whole command line."""
        if self.descriptor is None:
            return list(self.command)
        return [*self.command, "--password-fd", str(self.descriptor)]


_SETTINGS: Final = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override a key."
)
_OFFLINE: Final = click.option(
    "--offline", is_flag=True, help="Ask nobody for blocks, as storage.offline does."
)
_UNLOCK: Final = click.option(
    "--unlock", is_flag=True, help="Ask for the wallet's password at the terminal."
)


@click.command("start")
@click.option("--detach", is_flag=True, help="Return when the node is ready; it runs on.")
@click.option("--dev", is_flag=True, help="Make the folder first if there is none, as init --dev.")
@_SETTINGS
@_OFFLINE
@_UNLOCK
@password_options
@pass_session
def start(session: Session, /, *, detach: bool, dev: bool, **given: Any) -> None:  # noqa: ANN401 - click's options
    """Run the node in the foreground, or with --detach in the background.

    The labs of a network made by `prsm init --dev` are started and ended with it.
    """
    home = session.home
    if dev and not home.version.exists():
        labs.init_dev(home)
        session.note(f"a development network was made in {home.root}")
    home.check()
    flags, config = _settings_of(home, **given)
    _refuse_second(home, config)
    launch = _launch(home, flags, **given)
    if detach:
        _start_detached(session, launch)
    else:
        _note_next(session, "when it is up, in another terminal", len(labs.found(home)))
        labs.start(home, DAEMON, is_ours=True)
        sys.stdout.flush()
        os.execve(launch.words[0], launch.words, launch.environ)  # noqa: S606 - our own program, no shell


@click.command("stop")
@pass_session
def stop(session: Session) -> None:
    """End the node gracefully and wait until it is gone."""
    home = _home_here(session)
    holder, ended = home.holder(), labs.holders(home)
    if holder is None and not ended:
        raise NodeUnreachable(f"no node runs in {home.root}", hint="nothing is to be stopped")
    if holder is not None:
        _end(session, home, holder)
    for lab, one in ended:
        _terminate(one)
        _wait_gone(session, lab, one)
    answer: dict[str, object] = {"stopped": True, "pid": holder.pid if holder else 0}
    session.answer_value({**answer, "labs": len(ended)} if ended else answer)


@click.command("restart")
@_SETTINGS
@_OFFLINE
@_UNLOCK
@password_options
@pass_session
def restart(session: Session, /, **given: Any) -> None:  # noqa: ANN401 - click's options
    """End the node and start it again in the background; starts it if it does not run.

    What an earlier start was given by --set does not hold any more. Nothing is ended before what
    is given and configured has been read, and the port is nobody else's.
    """
    home = _home_here(session)
    flags, config = _settings_of(home, **given)
    launch = _launch(home, flags, **given)
    if launch.descriptor is None and config.keys.password_file:
        given_password(None, str(home.root / Path(config.keys.password_file).expanduser()))
    holder = home.holder()
    if holder is not None:
        if holder.pid:  # else its own door would pass for somebody else's
            _refuse_taken(config, but=holder.pid)
        _end(session, home, holder)
    _refuse_second(home, config)
    _start_detached(session, launch)


def _home_here(session: Session) -> Home:
    """The folder whose process is meant: never that of another node, nor what is no node."""
    if session.node:
        raise Usage(
            f"{session.node} is named, by --node or PRSM_NODE; this ends the process of the node "
            f"in {session.home.root}",
            hint="end the other one with: prsm rpc call node_stop; or unset PRSM_NODE",
        )
    session.home.check()
    _refuse_work(session.home)
    return session.home


def _refuse_work(home: Home) -> None:
    """Raise if what has the folder is no node, such as a destroy: it must not be cut off."""
    for one in (home, *labs.found(home)):
        holder = one.holder()
        if holder is not None and holder.work:
            raise one.locked_by(holder)


def _end(session: Session, home: Home, holder: Holder) -> None:
    """Ask the node to stop, and wait until nobody holds its folder."""
    session.is_patient = False
    try:
        session.call("node_stop")
    except (NodeUnreachable, CallTimeout):
        # Its door is shut or not open yet. The lock proves that this process is the node.
        if not holder.pid:
            raise
        _terminate(holder)
    session.close()
    _wait_gone(session, home, holder)


def _terminate(holder: Holder) -> None:
    if holder.pid:
        os.kill(holder.pid, signal.SIGTERM)


def _wait_gone(session: Session, home: Home, holder: Holder) -> None:
    deadline = time.monotonic() + session.timeout_s
    while home.holder() is not None:
        if time.monotonic() > deadline:
            raise CallTimeout(
                f"process {holder.pid} has not ended in {session.timeout_s:g} s",
                hint=f"wait longer with --timeout, or: kill -9 {holder.pid}",
            )
        pause()


def _settings_of(
    home: Home, *, settings: tuple[str, ...], offline: bool, **_rest: object
) -> tuple[dict[str, str], Config]:
    """What the command line sets, and the configuration with it."""
    words = (*settings, "storage.offline=true") if offline else settings
    flags = dict(_setting(word) for word in words)
    return flags, load(home.config, environ=os.environ, flags=flags).config


def _launch(
    home: Home,
    flags: dict[str, str],
    *,
    unlock: bool,
    password_fd: int | None,
    password_file: str | None,
    **_rest: object,
) -> Launch:
    """How the daemon is started; asks for the password if it is to be asked."""
    environ = dict(os.environ)
    for key, text in flags.items():
        environ["PRSM_" + key.upper().replace(".", "__", 1)] = text
    command = (sys.executable, "-m", DAEMON, "--home", str(home.root))
    descriptor = _password_descriptor(
        unlock=unlock, password_fd=password_fd, password_file=password_file
    )
    return Launch(command, environ, descriptor)


def _refuse_second(home: Home, config: Config) -> None:
    _refuse_work(home)
    holder = home.holder()
    if holder is not None:
        raise Usage(
            f"process {holder.pid} already runs the node in {home.root}",
            hint=f"prsm status{home_words(home)}, or stop it with prsm stop",
        )
    _refuse_taken(config)


def _refuse_taken(config: Config, *, but: int | None = None) -> None:
    """Raise if a process listens where the node is to answer, `but` the one that is to end."""
    host, port = config.rpc.host, config.rpc.port
    if port and _listener(host, port) not in {None, but}:
        raise PortTaken(
            f"{host}:{port} is taken by {describe_holder(host, port)}",
            hint="prsm start --set rpc.listen=127.0.0.1:0 takes a free port",
        )


def _listener(host: str, port: int) -> int | None:
    """The process that listens there, if we may see it or it is a node that says so."""
    pid = find_listener(port)
    if pid is None and (alive := ask_alive(host, port)) is not None:
        return alive.pid
    return pid


def _password_descriptor(
    *, unlock: bool, password_fd: int | None, password_file: str | None
) -> int | None:
    """A descriptor the daemon inherits and reads its password from; None if there is none."""
    password = given_password(password_fd, password_file)
    if password is None and unlock:
        password = ask_password("the wallet")
    if password is None:
        return None
    reader, writer = os.pipe()
    os.write(writer, password.encode() + b"\n")
    os.close(writer)
    os.set_inheritable(reader, True)  # noqa: FBT003 - os
    return reader


def _start_detached(session: Session, launch: Launch) -> None:
    home, descriptor = session.home, launch.descriptor
    with home.log.open("ab") as log:
        child = subprocess.Popen(  # noqa: S603 - our own program, no shell
            launch.words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=launch.environ,
            start_new_session=True,
            pass_fds=() if descriptor is None else (descriptor,),
        )
    session.note(f"process {child.pid}, log in {home.log}")
    try:
        _wait_started(session, child)
    except KeyboardInterrupt:
        words = home_words(home)
        click.echo(
            f"\nprocess {child.pid} goes on: prsm status{words}; end it with: prsm stop{words}",
            err=True,
        )
        click.get_current_context().exit(int(Exit.INTERRUPTED))


def _wait_started(session: Session, child: "subprocess.Popen[bytes]") -> None:
    home = session.home
    beside, count = labs.start(home, DAEMON, is_ours=False), len(labs.found(home))
    deadline = time.monotonic() + session.timeout_s
    why = "it did not open its door"
    while time.monotonic() < deadline:
        try:
            child.wait(POLL_S)
        except subprocess.TimeoutExpired:
            why = _why_not_ready(home, child.pid, peers=count) or ""
            if not why:
                _answer_started(session, child.pid, count)
                return
        else:
            for lab in beside:
                lab.terminate()
            _fail_start(home, child.returncode)
    raise CallTimeout(
        f"process {child.pid} is not ready after {session.timeout_s:g} s: {why}",
        hint=f"it goes on; look again with prsm status{home_words(home)}",
    )


def _answer_started(session: Session, pid: int, count: int) -> None:
    endpoint = msgspec.json.decode(session.home.endpoint.read_bytes(), type=Endpoint)
    answer = {"pid": pid, "http": endpoint.http, "ready": True}
    session.answer_value({**answer, "labs": count} if count else answer)
    _note_next(session, "next", count)


def _note_next(session: Session, when: str, count: int) -> None:
    """Say what to type when the node is up: a first job where labs would do it."""
    words = home_words(session.home)
    if count:
        run = f'prsm run {labs.first_model()} "a sentence" --proof receipt.json'
        session.note(f"{when}: {run}{words}")
    else:
        session.note(f"{when}: prsm status{words}")


def _why_not_ready(home: Home, pid: int, *, peers: int) -> str | None:
    """Empty or None when `/readyz` of that very process says yes, and so many peers are there."""
    try:
        endpoint = msgspec.json.decode(home.endpoint.read_bytes(), type=Endpoint)
        if endpoint.pid != pid:
            return "it did not open its door"
        with Client(find(home), timeout_s=2.0) as client:
            status, body = client.get("/readyz")
            if status == 200 and peers:
                found = msgspec.json.decode(client.call_raw("node_getStatus"), type=dict[str, Any])
                linked = int(found["peers"])
                return "" if linked >= peers else f"{linked} of {peers} labs are linked"
    except (OSError, msgspec.MsgspecError, PrsmError):
        return "it did not open its door"
    if status == 200:
        return None
    return str(msgspec.json.decode(body, type=dict[str, object]).get("why", "it starts"))


def _fail_start(home: Home, code: int) -> NoReturn:
    with home.log.open("rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
        tail = log.read().decode("utf-8", "replace").strip().splitlines()[-6:]
    what, hint = f"the node ended with code {code}: {' | '.join(tail)}", "prsm doctor, or prsm logs"
    # Its last word is a number of the registry, where it ended with an error of ours.
    number = _NUMBER.fullmatch(tail[-1]) if tail else None
    entry = BY_NUMBER.get(int(number[1])) if number else None
    if entry is not None and entry.exit_code == code:
        raise fault_told(entry.reason, what, hint=f"{entry.fix}; or {hint}")
    raise StartFailed(what if tail else f"{what}an empty log", hint=hint)


def _setting(word: str) -> tuple[str, str]:
    key, equals, text = word.partition("=")
    if not equals:
        raise click.UsageError(f"{word[:60]!r} is no KEY=VALUE, such as rpc.listen=127.0.0.1:0")
    return key, text


def home_words(home: Home) -> str:
    """What a person adds to a command so that it means this folder."""
    return "" if home == default_home(os.environ) else f" --home {home.root}"
