"""A node's folder from outside: make it, say where it lies, remove it; and the versions.

Knows: the folder. Must not know: how its program is started (`running`).
"""

import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from prsm.node.cli import labs
from prsm.node.cli.failures import Usage
from prsm.node.cli.parts import parts, remove_empty, strangers
from prsm.node.cli.passwords import ask_password, given_password, password_options
from prsm.node.cli.running import home_words
from prsm.node.cli.session import Session, pass_session
from prsm.node.holder import DESTROY
from prsm.node.home import Home, HomeLocked, find_home
from prsm.node.rpc.client import RpcError
from prsm.node.version import VERSION
from prsm.protocol.errors import LocalError, PrsmError


@click.command("init")
@click.option("--name", default="node", help="What people call this node.")
@click.option("--dev", is_flag=True, help="A development network with labs that work for it.")
@click.option("--labs", type=click.IntRange(1, 8), help="How many labs.  [default: 3]")
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
@click.option(
    "--import-key",
    type=click.File("rb", lazy=True),  # else a refused line of words leaves it open
    help="The payment key of this file, as wallet import takes it; - for standard input.",
)
@click.option("--file-password-fd", type=int, metavar="N", help="Of the key file, if another.")
@click.option("--file-password-file", metavar="FILE", help="The same, from a file (mode 0600).")
@password_options
@pass_session
def init(session: Session, /, **options: Any) -> None:  # noqa: ANN401 - click's options
    """Make a node's folder: keys, configuration, genesis.

    Without --genesis a development network of this one node is made, whose password lies in the
    folder, so that it starts unattended. With --dev it gets labs beside it, in the same folder,
    that start with it and run its jobs. --import-key takes an account along that exists already;
    a network of one's own, whose password lies beside its keys, is no place for it.
    """
    from prsm.node.cli.birth import Birth, init_home
    from prsm.node.cli.wallets import read_payment_key

    settings = {
        "net.bootstrap": options["bootstrap"] or None,
        "net.listen": (options["listen"],) if options["listen"] else None,
        "rpc.listen": options["rpc"],
    }
    words = home_words(session.home)
    if options["dev"]:
        _refuse_together(options)
        count, name = options["labs"] or labs.COUNT, options["name"]
        session.answer_value(labs.init_dev(session.home, count=count, name=name, settings=settings))
        session.note(f"next: prsm start --detach{words}")
        return
    genesis, key = options["genesis"], options["import_key"]
    if key is not None and genesis is None:
        raise click.UsageError("--import-key goes with --genesis: the network of the account")
    password = given_password(options["password_fd"], options["password_file"])
    if password is None and genesis is not None:
        password = ask_password("the new wallet", twice=True)
    other = given_password(options["file_password_fd"], options["file_password_file"])
    birth = Birth(
        name=options["name"],
        profile=options["profile"] or ("lab" if genesis else "validator"),
        network=options["network"],
        genesis=Path(genesis) if genesis else None,
        password=password,
        settings=settings,
        payment=None if key is None else read_payment_key(key, other or password or ""),
    )
    session.answer_value(init_home(session.home, birth))
    session.note(f"next: prsm start{words}")
    if genesis is None:
        session.note(f"this node is alone in its network; {labs.ALONE}")


def _refuse_together(options: dict[str, Any]) -> None:
    names = ("genesis", "profile", "password_fd", "password_file", "bootstrap", "import_key")
    wrong = [name for name in names if options[name]]
    if wrong:
        word = wrong[0].replace("_", "-")
        raise click.UsageError(f"--dev makes a network of its own; --{word} does not go with it")


@click.command("where")
@pass_session
def where(session: Session) -> None:
    """Where everything of this node lies, and what named the folder."""
    places = {name: str(path) for name, path in session.home.where()}
    told = {"lock": str(session.home.lock), "system_config": _system_config()}
    session.answer_value({**places, **told, "named_by": _named_by(session)})


def _system_config() -> str | None:
    from prsm.node.config.system import NAMED_BY, SYSTEM_FILE

    return os.environ.get(NAMED_BY, str(SYSTEM_FILE)) or None


def _named_by(session: Session) -> str:
    return "--home" if session.is_home_given else find_home(os.environ)[1]


@click.command("version")
@pass_session
def version(session: Session) -> None:
    """Versions of this client and, if it runs, of the node."""
    session.is_patient = False
    versions = {"client": VERSION, "python": platform.python_version(), "node": None}
    try:
        node = session.ask("rpc_getInfo")
    except (PrsmError, RpcError):
        node = {}
    session.answer_value({**versions, "node": node.get("version"), "chain": node.get("chain_id")})


@click.command("destroy")
@click.option("--dry-run", is_flag=True, help="Say what would be deleted, and delete nothing.")
@click.option("--keep-keys", is_flag=True, help="Leave keys/, so that what they own is not lost.")
@click.option("--confirm", "typed", metavar="NAME", help="The node's name, in the place of typing.")
@pass_session
def destroy(session: Session, *, dry_run: bool, keep_keys: bool, typed: str | None) -> None:
    """Delete a stopped node's folder: ledger, models, jobs, and its keys.

    Says first what goes. Keys are money: their deletion wants the node's name typed, which --yes
    does not answer.
    """
    home = Home(session.home.root.resolve())  # of a link, what it points to
    home.check()
    _refuse_running(home)
    name = _name_of(home)
    going = [path for path in parts(home) if not (keep_keys and path == home.keys)]
    rows, left = [_sized(path) for path in going], strangers(home)
    led = [path.resolve() for path in going if path.is_symlink()]
    answer = {"home": str(home.root), "name": name, "keys_kept": keep_keys, "items": rows}
    answer["left"] = [str(path) for path in (*left, *led)]
    if dry_run:
        session.answer_value({**answer, "deleted": False})
        return
    if not session.json:
        for row in rows:
            session.note(f"{row['path']}  {row['files']} files, {row['bytes']} bytes")
        for path in left:
            session.note(f"{path} is no part of a node and stays")
        for path in led:
            session.note(f"{path} is where a link led and stays")
    _ask_to_destroy(session, name, typed, keep_keys=keep_keys)
    _refuse_running(home)  # again: the answer took its time
    with _held(home):
        for path in going:
            _remove(path)
        with suppress(OSError):  # made here if the node never ran, else gone
            home.lock.unlink()
        remove_empty(home)
    if session.home.root.is_symlink() and not home.root.exists():
        session.home.root.unlink()
    session.answer_value({**answer, "deleted": True})


def _refuse_running(home: Home) -> None:
    for one in (home, *labs.found(home)):
        holder = one.holder()
        if holder is not None and holder.work:
            raise one.locked_by(holder)
        if holder is not None:
            raise HomeLocked(
                f"process {holder.pid} runs the node in {one.root}", hint="prsm stop, then again"
            )


@contextmanager
def _held(home: Home) -> Iterator[None]:
    """Let no node begin in the folder, nor in its labs, while that is deleted: it takes minutes.

    Where no lock can be had, of a full disk or a folder of another user, it is deleted all the
    same.
    """
    with ExitStack() as held:
        for one in (home, *labs.found(home)):
            try:
                held.enter_context(one.hold(DESTROY))
            except HomeLocked:
                raise
            except LocalError:
                continue
        yield


def _name_of(home: Home) -> str:
    from prsm.node.config import ConfigError, load

    try:
        return load(home.config).config.node.name
    except ConfigError:
        return "node"  # a node of a broken configuration is deleted by the name of new ones


def _ask_to_destroy(session: Session, name: str, typed: str | None, *, keep_keys: bool) -> None:
    if keep_keys:
        session.confirm(f"delete all of {session.home.root} but its keys?")
        return
    if typed is None:
        if not session.is_terminal:
            raise click.UsageError(f"its keys go too: add --confirm {name}, or --keep-keys")
        typed = click.prompt(f"its keys go too; type the node's name ({name})", err=True)
    if typed != name:
        raise Usage(f"{typed[:60]!r} is not the node's name", hint=f"--confirm {name}")


def _sized(path: Path) -> dict[str, Any]:
    below = (Path(folder) / name for folder, _, names in os.walk(path) for name in names)
    is_folder = path.is_dir() and not path.is_symlink()
    sizes = [each.lstat().st_size for each in (below if is_folder else [path])]
    return {"kind": path.name, "path": str(path), "files": len(sizes), "bytes": sum(sizes)}


def _remove(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError as error:
        raise LocalError(
            f"{error.filename or path} cannot be deleted: {error.strerror}",
            hint="see who owns it, then: prsm destroy again",
        ) from error
