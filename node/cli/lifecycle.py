"""A node's life from outside: make its folder, start its program, end it, say where it lies.

Knows: the folder, the daemon's command line, its open pages. Must not know: rooms of the daemon;
`python -m prsm.node` is started by name.
"""

import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, NoReturn

import click
import msgspec

from prsm.node.cli.failures import Usage
from prsm.node.cli.passwords import ask_password, given_password, password_options
from prsm.node.cli.session import POLL_S, Session, pass_session, pause
from prsm.node.config import Config, load
from prsm.node.home import Home
from prsm.node.rpc.client import Client, Endpoint, RpcError, find
from prsm.node.rpc.errors import CallTimeout, NodeUnreachable, PortTaken
from prsm.node.rpc.ports import ask_alive, describe_holder, find_listener
from prsm.node.version import VERSION
from prsm.protocol.errors import LocalError, PrsmError

DAEMON: Final = "prsm.node"
_LOG_TAIL_BYTES: Final = 2_000


class StartFailed(LocalError):
    """The daemon ended before it was ready; the text has its last words."""

    reason = "start_failed"


@click.command("init")
@click.option("--name", default="node", help="What people call this node.")
@click.option(
    "--profile",
    type=click.Choice(["dev", "lab", "validator", "light"]),
    help="A named set of defaults; a new network needs a validator.",
)
@click.option("--network", default="local", help="Name of the new network.")
@click.option("--genesis", type=click.Path(exists=True), help="Join the network of this file.")
@click.option("--bootstrap", multiple=True, metavar="ADDRESS", help="A peer to dial at start.")
@click.option("--listen", metavar="ADDRESS", help="Where peers dial us.")
@click.option("--rpc", metavar="HOST:PORT", help="Where clients ask; port 0 takes a free one.")
@password_options
@pass_session
def init(session: Session, /, **options: object) -> None:
    """Make a node's folder: keys, configuration, genesis.

    Without --genesis a development network of this one node is made, whose password lies in the
    folder, so that it starts unattended.
    """
    from prsm.node.cli.birth import Birth, init_home

    genesis = options["genesis"]
    fd, file = options["password_fd"], options["password_file"]
    password = given_password(
        fd if isinstance(fd, int) else None, file if isinstance(file, str) else None
    )
    if password is None and genesis is not None:
        password = ask_password("the new wallet", twice=True)
    bootstrap = options["bootstrap"]
    birth = Birth(
        name=str(options["name"]),
        profile=str(options["profile"] or ("lab" if genesis else "validator")),
        network=str(options["network"]),
        genesis=Path(str(genesis)) if genesis else None,
        password=password,
        settings={
            "net.bootstrap": bootstrap or None,
            "net.listen": (options["listen"],) if options["listen"] else None,
            "rpc.listen": options["rpc"],
        },
    )
    session.answer_value(init_home(session.home, birth))
    session.note(f"next: prsm start{_home_words(session.home)}")


@click.command("start")
@click.option("--detach", is_flag=True, help="Return when the node is ready; it runs on.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override a key.")
@click.option("--offline", is_flag=True, help="Ask nobody for blocks, as storage.offline does.")
@click.option("--unlock", is_flag=True, help="Ask for the wallet's password at the terminal.")
@password_options
@pass_session
def start(
    session: Session, /, settings: tuple[str, ...], *, detach: bool, offline: bool, **secret: object
) -> None:
    """Run the node in the foreground, or with --detach in the background."""
    home = session.home
    home.check()
    words = (*settings, "storage.offline=true") if offline else settings
    flags = dict(_setting(word) for word in words)
    config = load(home.config, environ=os.environ, flags=flags).config
    _refuse_second(home, config)
    environ = dict(os.environ)
    for key, text in flags.items():
        environ["PRSM_" + key.upper().replace(".", "__", 1)] = text
    command = [sys.executable, "-m", DAEMON, "--home", str(home.root)]
    descriptor = _password_descriptor(**secret)
    if descriptor is not None:
        command += ["--password-fd", str(descriptor)]
    if detach:
        _start_detached(session, command, environ, descriptor)
    else:
        sys.stdout.flush()
        os.execve(command[0], command, environ)  # noqa: S606 - our own program, no shell


@click.command("stop")
@pass_session
def stop(session: Session) -> None:
    """End the node gracefully and wait until it is gone."""
    home = session.home
    home.check()
    holder = home.holder()
    if holder is None:
        raise NodeUnreachable(f"no node runs in {home.root}", hint="nothing is to be stopped")
    try:
        session.call("node_stop")
    except (NodeUnreachable, CallTimeout):
        # Its door is shut or not open yet. The lock proves that this process is the node.
        if not holder.pid:
            raise
        os.kill(holder.pid, signal.SIGTERM)
    session.close()
    deadline = time.monotonic() + session.timeout_s
    while home.holder() is not None:
        if time.monotonic() > deadline:
            raise CallTimeout(
                f"process {holder.pid} has not ended in {session.timeout_s:g} s",
                hint=f"wait longer with --timeout, or: kill -9 {holder.pid}",
            )
        pause()
    session.answer_value({"stopped": True, "pid": holder.pid})


@click.command("where")
@pass_session
def where(session: Session) -> None:
    """Where everything of this node lies."""
    session.answer_value({name: str(path) for name, path in session.home.where()})


@click.command("version")
@pass_session
def version(session: Session) -> None:
    """Versions of this client and, if it runs, of the node."""
    versions = {"client": VERSION, "python": platform.python_version(), "node": None}
    try:
        node = session.ask("rpc_getInfo")
    except (PrsmError, RpcError):
        node = {}
    session.answer_value({**versions, "node": node.get("version"), "chain": node.get("chain_id")})


def _refuse_second(home: Home, config: Config) -> None:
    holder = home.holder()
    if holder is not None:
        raise Usage(
            f"process {holder.pid} already runs the node in {home.root}",
            hint=f"prsm status{_home_words(home)}, or stop it with prsm stop",
        )
    host, port = config.rpc.host, config.rpc.port
    if port and (find_listener(port) is not None or ask_alive(host, port) is not None):
        raise PortTaken(
            f"{host}:{port} is taken by {describe_holder(host, port)}",
            hint="prsm start --set rpc.listen=127.0.0.1:0 takes a free port",
        )


def _password_descriptor(
    *, unlock: object, password_fd: object, password_file: object
) -> int | None:
    """A descriptor the daemon inherits and reads its password from; None if there is none."""
    fd = password_fd if isinstance(password_fd, int) else None
    file = password_file if isinstance(password_file, str) else None
    password = given_password(fd, file)
    if password is None and unlock:
        password = ask_password("the wallet")
    if password is None:
        return None
    reader, writer = os.pipe()
    os.write(writer, password.encode() + b"\n")
    os.close(writer)
    os.set_inheritable(reader, True)  # noqa: FBT003 - os
    return reader


def _start_detached(
    session: Session, command: list[str], environ: dict[str, str], descriptor: int | None
) -> None:
    home = session.home
    with home.log.open("ab") as log:
        child = subprocess.Popen(  # noqa: S603 - our own program, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environ,
            start_new_session=True,
            pass_fds=() if descriptor is None else (descriptor,),
        )
    session.note(f"process {child.pid}, log in {home.log}")
    deadline = time.monotonic() + session.timeout_s
    why = "it did not open its door"
    while time.monotonic() < deadline:
        try:
            child.wait(POLL_S)
        except subprocess.TimeoutExpired:
            why = _why_not_ready(home, child.pid) or ""
            if not why:
                endpoint = msgspec.json.decode(home.endpoint.read_bytes(), type=Endpoint)
                session.answer_value({"pid": child.pid, "http": endpoint.http, "ready": True})
                return
        else:
            _fail_start(home, child.returncode)
    raise CallTimeout(
        f"process {child.pid} is not ready after {session.timeout_s:g} s: {why}",
        hint=f"it goes on; look again with prsm status{_home_words(home)}",
    )


def _why_not_ready(home: Home, pid: int) -> str | None:
    """Empty or None when `/readyz` of that very process says yes."""
    try:
        endpoint = msgspec.json.decode(home.endpoint.read_bytes(), type=Endpoint)
        if endpoint.pid != pid:
            return "it did not open its door"
        with Client(find(home), timeout_s=2.0) as client:
            status, body = client.get("/readyz")
    except (OSError, msgspec.MsgspecError, PrsmError):
        return "it did not open its door"
    if status == 200:
        return None
    return str(msgspec.json.decode(body, type=dict[str, object]).get("why", "it starts"))


def _fail_start(home: Home, code: int) -> NoReturn:
    with home.log.open("rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
        tail = log.read().decode("utf-8", "replace").strip().splitlines()[-6:]
    raise StartFailed(
        f"the node ended with code {code}: {' | '.join(tail) or 'an empty log'}",
        hint=f"read {home.log}",
    )


def _setting(word: str) -> tuple[str, str]:
    key, equals, text = word.partition("=")
    if not equals:
        raise click.UsageError(f"{word[:60]!r} is no KEY=VALUE, such as rpc.listen=127.0.0.1:0")
    return key, text


def _home_words(home: Home) -> str:
    default = Path.home() / ".prsm"
    return "" if home.root == default else f" --home {home.root}"
