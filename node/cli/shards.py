"""`prsm storage split | join`: a file as n shards of which any k give it back; they need no node.

Each shard is a file of its own with a CID: keep them on different disks, hand them to different
people, or take each into a node (`prsm storage export`, `import`). Knows: a folder of shards and
its `set`. Must not know: Reed-Solomon.
"""

import shutil
from pathlib import Path
from typing import Final

import click

from prsm.node.cli.session import Session, pass_session

SET: Final = "set"  # beside the shards: which file, which code, which CIDs


def _code(_context: click.Context, _param: click.Parameter, text: str) -> tuple[int, int]:
    k, slash, n = text.partition("/")
    if not (slash and k.isdecimal() and n.isdecimal()):
        raise click.BadParameter(f"{text!r} is no code; write K/N, such as 4/6")
    return int(k), int(n)


@click.command("split")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--code",
    metavar="K/N",
    default="4/6",
    show_default=True,
    callback=_code,
    help="Any K of N shards give the file back; they take N / K times its bytes.",
)
@pass_session
def storage_split(session: Session, file: Path, folder: Path, code: tuple[int, int]) -> None:
    """Cut FILE into shards in the new folder DIR, by Reed-Solomon. Needs no node.

    The file `set` in it names them: keep a copy with every shard.
    """
    from prsm.storage.cid import decode_cid, hash_block
    from prsm.storage.dag.erasure import Code, encode_file, encode_set
    from prsm.storage.errors import Conflict
    from prsm.storage.wholefile import refused

    wanted = Code(*code)
    if folder.exists():
        raise Conflict(f"{folder} is there", hint="name a new folder")
    try:
        with refused(folder):
            folder.mkdir()
            made = encode_file(file, folder, wanted)
            raw = encode_set(made)
            (folder / SET).write_bytes(raw)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    session.answer_value(
        {
            "cid": str(decode_cid(made.root)),
            "set": str(hash_block(raw)),
            "folder": str(folder),
            "bytes": made.size,
            "shard_bytes": made.shard_bytes,
            "needed": made.k,
            "shards": [str(decode_cid(root)) for root in made.shards],
        }
    )


@click.command("join")
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, path_type=Path))
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), required=False)
@pass_session
def storage_join(session: Session, folder: Path, file: Path | None) -> None:
    """Write FILE again from the shards in DIR; without FILE, the shards that are lost there.

    Each shard is checked by its CID first, so a damaged one is left out. Needs no node.
    """
    from prsm.storage.cid import decode_cid
    from prsm.storage.dag.erasure import (
        decode_set,
        rebuild_file,
        rebuild_shards,
        root_of,
        shard_path,
    )
    from prsm.storage.errors import Conflict
    from prsm.storage.wholefile import refused

    if file is not None and file.exists():
        raise Conflict(f"{file} is there", hint="name a new file")
    with refused(folder / SET):
        shards = decode_set((folder / SET).read_bytes())
    there = {
        place: path
        for place in range(len(shards.shards))
        if (path := shard_path(folder, place)).is_file()
    }
    answer: dict[str, object] = {"cid": str(decode_cid(shards.root)), "bytes": shards.size}
    if file is not None:
        with refused(file):
            done = rebuild_file(shards, there, file)
        answer["path"] = str(file)
    else:
        good = {at: path for at, path in there.items() if root_of(path).raw == shards.shards[at]}
        lost = sorted(set(range(len(shards.shards))) - set(good))
        if not lost:
            session.answer_value(answer | {"written": [], "used": [], "damaged": []})
            return
        with refused(folder):
            done = rebuild_shards(shards, good, folder, lost)
        answer["written"] = lost
    session.answer_value(answer | {"used": list(done.used), "damaged": list(done.damaged)})
