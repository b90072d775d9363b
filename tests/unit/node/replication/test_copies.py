"""Copies for others, of this node's models: within their room, and nobody waits for one."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from prsm.node.models import Models
from prsm.node.models.records import Known
from prsm.node.replication.copies import CopyShelf
from prsm.node.replication.placement import Keeper, room_told
from prsm.node.replication.plan import Subject, View, turn_of
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import MIB
from prsm.protocol.messages.models import ManifestFile
from prsm.storage.cid import Cid, Codec, decode_cid
from prsm.storage.errors import Conflict, Full, NotFound
from prsm.storage.fetch.exchange import Urgency
from prsm.storage.manifest import ForeignManifest
from prsm.storage.store.model_store import ModelStore
from prsm.storage.store.pins import REPAIR
from tests.tools.elsewhere import Elsewhere
from tests.tools.model_rooms import Room, open_room, wanted
from tests.tools.stores import manifest

KEEP = 5 * MIB


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    (tmp_path / "room").mkdir()
    async with open_room(tmp_path / "room") as made:  # a quota of 16 MiB
        yield made


@pytest.fixture
async def elsewhere(tmp_path: Path, room: Room) -> AsyncIterator[Elsewhere]:
    made = Elsewhere(await ModelStore.open(tmp_path / "elsewhere", quota=64 * MIB), tmp_path)
    made.serve(room)
    yield made
    await made.store.close()


def shelf_of(room: Room) -> CopyShelf:
    return CopyShelf(room.models, room.tools.store, room.tools.driver, keep_bytes=KEEP)


async def is_next(shelf: CopyShelf, model: Cid, size: int) -> bool:
    """Whether others expect this node to make a copy, by the room that it tells."""
    me = PeerId("me")
    view = View(me, {me: Keeper(me, "", room_told(await shelf.room_bytes()))})
    return turn_of(view, Subject(model.raw, size, frozenset((PeerId("holder"),)), 2)) == 0


async def repair_pins(room: Room) -> set[Cid]:
    return {pin.root for pin in await room.tools.store.pins() if pin.name == REPAIR}


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
        await shelf.fetch(known.cid.raw, 5)
        assert urgencies == [Urgency.REPAIR]
        assert shelf.kept() == {known.cid.raw}
        assert REPAIR in {pin.name for pin in await room.tools.store.pins()}


async def test_copy_of_another_size_than_the_ledger_says_is_refused(
    room: Room, elsewhere: Elsewhere
) -> None:
    cid, made = await elsewhere.make(3 * MIB)
    shelf = shelf_of(room)
    for told in (1, 3 * MIB - 1, 3 * MIB + 1):
        with pytest.raises(ForeignManifest, match=f"has {3 * MIB} bytes, the ledger says {told}"):
            await shelf.fetch(cid.raw, told)
        assert not await room.tools.store.list()
    await shelf.fetch(cid.raw, 3 * MIB)
    assert await repair_pins(room) == {decode_cid(made.files[0].root)}
    assert await shelf.room_bytes() == KEEP - 3 * MIB


async def test_copies_stay_within_the_room_for_others_one_after_the_other(
    room: Room, elsewhere: Elsewhere
) -> None:
    shelf = shelf_of(room)
    first, _ = await elsewhere.make(2 * MIB, MIB)
    second, _ = await elsewhere.make(2 * MIB + 1)
    await shelf.fetch(first.raw, 3 * MIB)
    with pytest.raises(Full, match=f"has {2 * MIB + 1} bytes, and {2 * MIB} are free for copies"):
        await shelf.fetch(second.raw, 2 * MIB + 1)
    assert shelf.kept() == {first.raw}
    await shelf.fetch(second.raw, None)  # somebody wants it
    assert shelf.kept() == {first.raw, second.raw}
    assert await shelf.room_bytes() == 0


async def test_copies_stay_within_the_room_for_others_at_the_same_time(
    room: Room, elsewhere: Elsewhere
) -> None:
    shelf = shelf_of(room)
    cids = [(await elsewhere.make(size))[0] for size in (3 * MIB, 3 * MIB + 1)]
    refused: list[Full] = []

    async def fetch(cid: Cid, size: int) -> None:
        try:
            await shelf.fetch(cid.raw, size)
        except Full as error:
            refused.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fetch, cids[0], 3 * MIB)
        nursery.start_soon(fetch, cids[1], 3 * MIB + 1)
    assert len(refused) == 1
    assert len(shelf.kept()) == 1


async def test_copy_that_cannot_be_had_leaves_no_room_taken(
    room: Room, elsewhere: Elsewhere
) -> None:
    """One that nobody has is dropped; one that came in part is counted, and goes on."""
    store = room.tools.store
    nobodys = ManifestFile("f", Cid(Codec.DAG_PB, bytes(32)).raw, 4 * MIB, bytes(32))
    cid = await elsewhere.store.save_manifest(manifest(files=(nobodys,)))
    shelf = shelf_of(room)
    with pytest.raises(NotFound):
        await shelf.fetch(cid.raw, 4 * MIB)
    assert not await store.list()
    assert await shelf.room_bytes() == KEEP

    cut, made = await elsewhere.make(4 * MIB)
    root = decode_cid(made.files[0].root)
    partial = await store.begin_fetch(root, 4 * MIB)
    await partial.put_node(await elsewhere.store.get_block(root.digest))
    await partial.write_run(partial.missing()[:1], await elsewhere.store.read_leaves(root, 0, 1))
    await store.end_fetch(partial)
    shelf = shelf_of(room)  # as after a restart
    assert await is_next(shelf, cut, 4 * MIB), "else it would never go on"
    other, _ = await elsewhere.make(MIB + 1)
    with pytest.raises(Full, match=f"and {MIB} are free for copies"):
        await shelf.fetch(other.raw, MIB + 1)
    await shelf.fetch(cut.raw, 4 * MIB)
    assert shelf.kept() == {cut.raw}


async def test_who_makes_a_copy_stays_the_next_one_in_the_order(
    room: Room, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it tells of its room meanwhile: else all the others would make that copy, too."""
    cid, _ = await elsewhere.make(4 * MIB)
    pull, shelf = Models.pull, shelf_of(room)
    seen: list[bool] = []

    async def pull_and_look(self: Models, ref: str, **_words: object) -> Known:
        seen.append(await is_next(shelf, cid, 4 * MIB))
        known = await pull(self, ref, urgency=Urgency.REPAIR)
        seen.append(await is_next(shelf, cid, 4 * MIB))
        return known

    monkeypatch.setattr(Models, "pull", pull_and_look)
    await shelf.fetch(cid.raw, 4 * MIB)
    assert seen == [True, True]
    assert await shelf.room_bytes() == KEEP - 4 * MIB


async def test_copy_that_is_being_made_is_not_given_up_before_it_is_kept(
    room: Room, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the fetch and the pin somebody needs room."""
    cid, made = await elsewhere.make(2 * MIB)
    pull = Models.pull

    async def then_remove(self: Models, ref: str, **words: object) -> Known:
        known = await pull(self, ref, urgency=Urgency.REPAIR)
        assert words == {"urgency": Urgency.REPAIR}
        with pytest.raises(Conflict, match="in use"):
            await room.tools.store.remove(decode_cid(made.files[0].root))
        return known

    monkeypatch.setattr(Models, "pull", then_remove)
    shelf = shelf_of(room)
    await shelf.fetch(cid.raw, 2 * MIB)
    assert shelf.kept() == {cid.raw}
