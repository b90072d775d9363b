"""A model of several files comes here whole or not at all: none makes room for another."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from prsm.protocol.limits import MIB
from prsm.storage.cid import decode_cid
from prsm.storage.errors import Full
from prsm.storage.store.model_store import ModelStore
from tests.tools.elsewhere import Elsewhere
from tests.tools.model_rooms import Room, open_room


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


async def test_pull_makes_room_with_what_is_used_less_and_keeps_its_own(
    room: Room, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    """What was here before is used more than the files that have just come."""
    store = room.tools.store
    (tmp_path / "old").write_bytes(bytes(6 * MIB))
    old = (await store.add_file(tmp_path / "old")).root
    for _ in range(5):
        await store.path(old)
    cid, made = await elsewhere.make(3 * MIB, 3 * MIB + 1, 3 * MIB + 2)
    known = await room.models.pull(str(cid))
    assert known.is_held
    assert await store.has_model(made)
    assert not await store.has(old)
    assert not store.leases.granted()


async def test_pull_of_what_fills_the_quota_is_whole(room: Room, elsewhere: Elsewhere) -> None:
    cid, made = await elsewhere.make(8 * MIB, 7 * MIB)
    assert (await room.models.pull(str(cid))).is_held
    assert await room.tools.store.has_model(made)


async def test_pull_of_more_than_the_quota_is_refused(room: Room, elsewhere: Elsewhere) -> None:
    """Each of its files would have room, one after the other."""
    cid, made = await elsewhere.make(9 * MIB, 8 * MIB)
    with pytest.raises(Full, match="of the quota are used"):
        await room.models.pull(str(cid))
    assert await room.tools.store.has(decode_cid(made.files[0].root))
    assert not room.tools.store.leases.granted()
