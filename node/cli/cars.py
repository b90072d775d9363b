"""`prsm storage cid | export | import`: CIDs and CARs of files and folders; they need no node.

Only the export of a CID, and an import into the store, ask a running node. Knows: paths, those two
methods. Must not know: blocks.
"""

import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from prsm.node.cli.outputs import OUT_FILE
from prsm.node.cli.session import Session, pass_session

if TYPE_CHECKING:
    from prsm.storage.dag.naming import Tree

PROFILES = ("unixfs-v1-2025", "legacy", "v1-256k-174", "v1-1m-174", "v1-256k-1024")
_LOOK_S: Final = 0.25
_SECONDS_MAX: Final = 600.0  # of a node that reads or writes a large file for us

Told = Callable[[int], None]

_profile = click.option(
    "--profile",
    type=click.Choice(PROFILES),
    default=PROFILES[0],
    show_default=True,
    help="How the file is cut; other programs' CIDs differ by it.",
)


@click.command("cid")
@click.argument("path", type=click.Path(exists=True, allow_dash=True, path_type=Path))
@_profile
@pass_session
def storage_cid(session: Session, path: Path, profile: str) -> None:
    """Print the CID of a file or folder; - reads standard input. Needs no node.

    The profile `legacy` gives what Kubo before 0.40 gives by default, `v1-256k-174` what it gives
    with --cid-version=1. Of a folder all files count, hidden ones too; modes and times do not.
    """
    from prsm.storage.dag.naming import name_path, name_stream
    from prsm.storage.dag.unixfs import profile_named

    chosen = profile_named(profile)
    if str(path) == "-":
        dag = name_stream(sys.stdin.buffer, chosen)
        answer: dict[str, object] = {"cid": chosen.text(dag.root), "profile": profile}
        answer |= {"kind": "file", "bytes": dag.size, "dag_bytes": dag.tsize}
    else:
        with told(session, "name", path) as progress:
            answer = _answer(name_path(path, chosen, progress=progress))
    session.answer_value(answer, _print_cid)


@click.command("export")
@click.argument("what", metavar="CID|PATH")
@click.argument("file", metavar="FILE.car", type=OUT_FILE)
@_profile
@pass_session
def storage_export(session: Session, what: str, file: Path, profile: str) -> None:
    """Write a CAR (version 1, one root) of what the node stores, or of a file or folder here.

    A path needs no node; each block is hashed as it is written. FILE.car must be a new name.
    """
    path = Path(what)
    if path.exists():
        session.answer_value(_export_path(session, path, file, profile))
        return
    session.timeout_s = max(session.timeout_s, _SECONDS_MAX)
    session.answer(session.call("storage_export", {"cid": what, "path": str(file.absolute())}))


@click.command("import")
@click.argument(
    "file", metavar="FILE.car", type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option("--to", "target", type=click.Path(path_type=Path), help="Unpack here; needs no node.")
@pass_session
def storage_import(session: Session, file: Path, target: Path | None) -> None:
    """Take a CAR into the node's store, or unpack it; each block is checked before it is used.

    Files of the profiles `prsm storage cid` knows are taken, and flat directories of them; they
    stay until `prsm storage rm` gives them up. With --to the file or folder
    appears under that new name when all of it held.
    """
    if target is not None:
        session.answer_value(_unpack(session, file, target))
        return
    session.timeout_s = max(session.timeout_s, _SECONDS_MAX)
    session.answer(session.call("storage_import", {"path": str(file.absolute())}))


@contextmanager
def told(session: Session, kind: str, path: Path, *, passes: int = 1) -> Iterator[Told]:
    """Show how far work on a path has come, as `--progress` asks; takes counts of bytes.

    Args:
        session: says who wants to know.
        kind: of the work, one word.
        path: the file; of a folder nobody knows the size before it was read.
        passes: how often its bytes are read.
    """
    from prsm.node.cli.progress import Show, shown_by

    began = last = time.monotonic()
    size = passes * path.stat().st_size if path.is_file() else 0
    done = 0
    show: Show | None = None
    with ExitStack() as stack:

        def tell(state: str) -> None:
            nonlocal show
            if show is None:  # what is done at once needs no bar, and not its library
                show = stack.enter_context(shown_by(session))
            seconds = max(time.monotonic() - began, 0.001)
            rate = int(done / seconds)
            left = None if not rate or not size else max(0, size - done) * 1000 // rate
            word: dict[str, object] = {"kind": kind, "subject": path.name, "state": state}
            word |= {"size_bytes": size, "done_bytes": done, "stalled_ms": 0}
            show(word | {"rate_bytes_per_s": rate, "eta_ms": left})

        def add(count: int) -> None:
            nonlocal done, last
            done += count
            if time.monotonic() - last >= _LOOK_S:
                last = time.monotonic()
                tell("running")

        yield add
        if show is not None or session.progress == "json":
            tell("done")


def _export_path(session: Session, path: Path, file: Path, profile: str) -> dict[str, object]:
    from prsm.storage.dag.packing import pack
    from prsm.storage.dag.unixfs import profile_named
    from prsm.storage.errors import Conflict
    from prsm.storage.wholefile import refused

    if file.exists():
        raise Conflict(f"{file} is there", hint="name a new file")
    if path.resolve() in file.resolve().parents:
        raise Conflict(f"{file} would be part of {path}", hint="write it elsewhere")
    fresh = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        with (
            told(session, "export", path, passes=2) as progress,
            refused(file),
            fresh.open("xb") as out,
        ):
            tree = pack(path, out, profile_named(profile), progress=progress)
            size = out.tell()
        with refused(file):
            fresh.rename(file)
    finally:
        fresh.unlink(missing_ok=True)
    return _answer(tree) | {"car": str(file), "car_bytes": size}


def _unpack(session: Session, file: Path, target: Path) -> dict[str, object]:
    from prsm.storage.dag.packing import unpack
    from prsm.storage.wholefile import refused

    target = target.absolute()
    with refused(file), file.open("rb") as source, told(session, "import", file) as progress:
        free = shutil.disk_usage(target.parent).free
        found = unpack(source, target, size_max=free, progress=progress)
    return {
        "cid": str(found.root),
        "path": str(target),
        "bytes": sum(one.size for one in found.files),
        "blocks": found.blocks,
        "files": [
            {"path": one.path, "cid": str(one.root), "bytes": one.size, "profile": one.profile.name}
            for one in found.files
        ],
    }


def _answer(tree: "Tree") -> dict[str, object]:
    root = tree.root
    answer: dict[str, object] = {
        "cid": tree.cid,
        "profile": tree.profile.name,
        "kind": "directory" if root.is_directory else "file",
        "bytes": root.dag.size,
        "dag_bytes": root.dag.tsize,
    }
    if root.is_directory:
        answer["entries"] = [
            {
                "path": entry.path,
                "cid": tree.text(entry.dag.root),
                "kind": "directory" if entry.is_directory else "file",
                "bytes": entry.dag.size,
            }
            for entry in tree.entries[:-1]
        ]
    return answer


def _print_cid(answer: dict[str, object]) -> None:
    click.echo(answer["cid"])
