"""`prsm chain export | import`: the ledger as files.

A running node is asked over JSON-RPC; the files of a stopped one are the work of a program of its
own, `python -m prsm.node.archive`, started by name. Knows: its arguments and its one document.
Must not know: rooms of the daemon.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
import msgspec

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


class ArchiveFailed(LocalError):
    """The program beside the client ended without an answer."""

    reason = "internal"


@click.command("export")
@click.argument("file", type=click.Path(dir_okay=False))
@click.option("--from", "first", type=click.IntRange(1), default=1, help="Height of the first.")
@click.option("--to", "last", type=click.IntRange(1), help="Height of the last; else the newest.")
@pass_session
def chain_export(session: Session, file: str, first: int, last: int | None) -> None:
    """Write blocks with their certificates into FILE, of a running node or a stopped one."""
    path = Path(file).expanduser().absolute()
    if session.node or session.home.holder() is not None:
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


def run_archive(session: Session, words: Sequence[str], descriptors: Sequence[int] = ()) -> bytes:
    """Run the program on this home; the bytes of its answer.

    Args:
        session: names the home.
        words: what it is to do.
        descriptors: inherited by it, such as pipes with passwords.

    Raises:
        RpcError: what the program refused, in the words of the registry.
        ArchiveFailed: it ended without saying why.
    """
    command = [sys.executable, "-m", ARCHIVE, "--home", str(session.home.root), *words]
    done = subprocess.run(  # noqa: S603 - our own program, no shell
        command, stdout=subprocess.PIPE, check=False, pass_fds=tuple(descriptors)
    )
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
