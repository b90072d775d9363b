"""Copies for others, of this node's models: nobody waits for one that is made."""

from pathlib import Path

import pytest
import trio

from prsm.node.models import Models
from prsm.node.models.records import Known
from prsm.node.replication.copies import CopyShelf
from prsm.storage.fetch.exchange import Urgency
from prsm.storage.store.pins import REPAIR
from tests.tools.model_rooms import open_room, wanted


async def test_copy_for_others_yields_to_who_waits_and_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_room(tmp_path) as room:
        room.pool.files = {"model.onnx": b"graph"}
        (tmp_path / "m.onnx").write_bytes(b"graph")
        known, _ = await room.models.add(wanted(tmp_path / "m.onnx", register=False))
        urgencies: list[object] = []

        async def pull(_self: Models, ref: str, **words: object) -> Known:
            await trio.lowlevel.checkpoint()
            assert ref == str(known.cid)
            urgencies.append(words["urgency"])
            return known

        monkeypatch.setattr(Models, "pull", pull)
        shelf = CopyShelf(room.models, room.tools.store, room.tools.driver, keep_bytes=1 << 20)
        await shelf.fetch(known.cid.raw)
        assert urgencies == [Urgency.REPAIR]
        assert shelf.kept() == {known.cid.raw}
        assert REPAIR in {pin.name for pin in await room.tools.store.pins()}
