"""`prsm chain export | import`, `prsm backup | restore`: the ledger and the home as files.

A running node is asked over JSON-RPC; the files of a stopped one are the work of a program of its
own, `python -m prsm.node.archive`, started by name. Knows: its arguments and its one document.
Must not know: rooms of the daemon.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import click
import msgspec

from prsm.node.cli.outputs import OUT_FILE
from prsm.node.cli.passwords import ask_password, given_password, password_options
from prsm.node.cli.session import Session, pass_session
from prsm.node.rpc.client import RpcError
from prsm.protocol.errors import LocalError
from prsm.storage.chainfile import ChainHead, write_chain
from prsm.storage.errors import NotFound

ARCHIVE: Final = "prsm.node.archive"


class _Fault(msgspec.Struct):
    code: int
    message: str
    data: dict[str, object]


class _Failed(msgspec.Struct):
    error: _Fault


class _Page(msgspec.Struct):
    height: int
    items: tuple[str, ...]


class _Restored(msgspec.Struct):
    notes: tuple[str, ...]


class ArchiveFailed(LocalError):
    """The program beside the client ended without an answer."""

    reason = "internal"


@click.command("export")
@click.argument("file", type=OUT_FILE)
@click.option("--from", "first", type=click.IntRange(1), default=1, help="Height of the first.")
@click.option("--to", "last", type=click.IntRange(1), help="Height of the last; else the newest.")
@pass_session
def chain_export(session: Session, file: Path, first: int, last: int | None) -> None:
    """Write blocks with their certificates into FILE, of a running node or a stopped one."""
    path = file.absolute()
    holder = session.home.holder()
    if session.node or (holder is not None and not holder.work):
        session.answer_value(_export_running(session, path, first, last))
        return
    heights = ["--first", str(first), *([] if last is None else ["--last", str(last)])]
    session.answer(run_archive(session, ["export", str(path), *heights]))


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@pass_session
def chain_import(session: Session, file: str) -> None:
    """Execute the blocks of FILE into the ledger of this stopped node, from where it stands.

    Each block is stored only after its certificate, its links and its roots held.
    """
    path = Path(file).expanduser().absolute()
    session.answer(run_archive(session, ["import", str(path)]))


@click.command("backup")
@click.argument("file", type=OUT_FILE)
@password_options
@pass_session
def backup(
    session: Session, file: Path, password_fd: int | None, password_file: str | None
) -> None:
    """Seal ledger, configuration, keys and books of this node into FILE, running or stopped.

    The password is the backup's own; one that a development network keeps beside its keys is
    sealed with them. Consensus key, log and guard stay behind: a restored node signs nothing.
    """
    password = given_password(password_fd, password_file)
    if password is None:
        password = ask_password("the new backup", twice=True)
    words = ["backup", str(file.absolute())]
    session.answer(run_archive(session, words, {"--password-fd": password}))
    session.note(f"check it with: prsm restore {file} --verify")


@click.command("restore")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--verify", is_flag=True, help="Check it only: it opens, and its state is proven.")
@click.option("--keys-password-fd", type=int, metavar="N", help="Open its keys with this one.")
@click.option("--keys-password-file", metavar="FILE", help="The same, from a file (mode 0600).")
@password_options
@pass_session
def restore(session: Session, /, file: str, *, verify: bool, **secret: object) -> None:
    """Make the home of a backup again in the folder of --home, which is absent or empty.

    Its blocks are executed from the genesis on; their state must be the one in the backup.
    """
    password = _given(secret, "password")
    if password is None:
        password = ask_password("the backup")
    secrets = {"--password-fd": password}
    keys = _given(secret, "keys_password")
    if keys is not None:
        secrets["--keys-password-fd"] = keys
    words = ["restore", str(Path(file).expanduser().absolute()), *(["--verify"] if verify else [])]
    raw = run_archive(session, words, secrets)
    session.answer(raw)
    for note in msgspec.json.decode(raw, type=_Restored).notes:
        session.note(note)


@click.command("self")
@pass_session
def audit_self(session: Session) -> None:
    """Follow the chain of this home's audit log, with the node running or stopped.

    What the ledger says of it is compared by `prsm audit verify`, which asks the node.
    """
    if not session.home.data.is_dir():
        raise NotFound(f"{session.home.root} is no home", hint="name it with --home DIR")
    session.answer(run_archive(session, ["audit"]))


def _given(secret: Mapping[str, object], name: str) -> str | None:
    fd, file = secret[f"{name}_fd"], secret[f"{name}_file"]
    return given_password(
        fd if isinstance(fd, int) else None, file if isinstance(file, str) else None
    )


def run_archive(
    session: Session, words: Sequence[str], secrets: Mapping[str, str] | None = None
) -> bytes:
    """Run the program on this home; the bytes of its answer.

    Args:
        session: names the home.
        words: what it is to do.
        secrets: passwords by the option that names the pipe they come through.

    Raises:
        RpcError: what the program refused, in the words of the registry.
        ArchiveFailed: it ended without saying why.
    """
    command = [sys.executable, "-m", ARCHIVE, "--home", str(session.home.root), *words]
    pipes = {option: _pipe(text) for option, text in (secrets or {}).items()}
    for option, descriptor in pipes.items():
        command += [option, str(descriptor)]
    try:
        done = subprocess.run(  # noqa: S603 - our own program, no shell
            command, stdout=subprocess.PIPE, check=False, pass_fds=tuple(pipes.values())
        )
    finally:
        for descriptor in pipes.values():
            os.close(descriptor)
    if done.returncode == 0:
        return done.stdout.strip()
    try:
        fault = msgspec.json.decode(done.stdout, type=_Failed).error
    except msgspec.MsgspecError as error:
        raise ArchiveFailed(
            f"{ARCHIVE} ended with code {done.returncode} and no answer",
            hint="its last words stand above; report them",
        ) from error
    raise RpcError(fault.code, fault.message, fault.data)


def _pipe(text: str) -> int:
    """A descriptor from which one line can be read."""
    reader, writer = os.pipe()
    os.write(writer, text.encode() + b"\n")
    os.close(writer)
    return reader


def _export_running(session: Session, path: Path, first: int, last: int | None) -> object:
    status = session.ask("chain_getStatus")
    newest = int(status["height"])
    last = newest if last is None else last
    if not first <= last <= newest:
        raise NotFound(
            f"heights {first} to {last} are not all there, the ledger ends at {newest}",
            hint="see: prsm chain status",
        )
    genesis = bytes.fromhex(str(status["genesis_hash"]).removeprefix("0x"))
    with write_chain(path, ChainHead(1, genesis, first, last)) as writer:
        while (height := writer.next_height) <= last:
            answer = session.call("chain_getCertified", {"first": height, "last": last})
            page = msgspec.json.decode(answer, type=_Page)
            if not page.items:
                raise NotFound(f"the node has no block {height}", hint="try another node")
            for item in page.items:
                writer.add(bytes.fromhex(item.removeprefix("0x")))
    return {"file": str(path), "first": first, "last": last, "size_bytes": writer.size_bytes}
