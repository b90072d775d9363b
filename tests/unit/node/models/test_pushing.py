"""A model handed to daemons: the same CIDs, one refusal named, nobody to hand it to."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest
import trio

from prsm.node.models.outside import Outside
from prsm.node.models.pushing import Taker
from prsm.protocol.errors import Unsupported
from prsm.storage.cid import Cid
from prsm.storage.errors import SourceDown
from tests.tools.model_rooms import open_room, wanted

FILES = {"stage-1.onnx": b"weights" * 300, "golden.bin": b"rows"}


class Daemon:
    """Takes files, or is down from the second on."""

    def __init__(self, name: str, *, files_max: int = 99) -> None:
        self.name, self.files_max = name, files_max
        self.taken: dict[Cid, bytes] = {}

    async def add_file(self, path: Path, *, root: Cid) -> None:
        if len(self.taken) >= self.files_max:
            raise SourceDown(f"{self.name} is down")
        self.taken[root] = await trio.Path(path).read_bytes()


class Beyond:
    """An outside with these daemons alone."""

    def __init__(self, daemons: Sequence[Taker]) -> None:
        self.daemons = daemons


async def test_each_daemon_is_handed_all_files_and_a_refusal_is_named(tmp_path: Path) -> None:
    good, bad = Daemon("good"), Daemon("bad", files_max=1)
    (tmp_path / "m.onnx").write_bytes(b"x")
    async with open_room(tmp_path, outside=cast("Outside", Beyond([good, bad]))) as room:
        room.pool.files = FILES
        known, _ = await room.models.add(wanted(tmp_path / "m.onnx", register=False))
        cid, pushed = await room.models.push("encoder@1.0.0")
    assert cid == known.cid
    assert {root.raw: raw for root, raw in good.taken.items()} == {
        file.root: FILES[file.path] for file in known.manifest.files
    }
    assert [(one.name, one.sent_bytes, one.fault) for one in pushed] == [
        ("good", known.manifest.total_bytes, ""),
        ("bad", len(FILES["stage-1.onnx"]), "bad is down"),
    ]


async def test_without_a_daemon_it_says_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"x")
    async with open_room(tmp_path) as room:
        room.pool.files = FILES
        await room.models.add(wanted(tmp_path / "m.onnx", register=False))
        with pytest.raises(Unsupported) as refused:
            await room.models.push("encoder")
    assert "storage.ipfs_rpc" in refused.value.hint
