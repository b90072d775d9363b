"""A pinned file that broke on disk is fetched again by itself, only what is damaged of it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
import trio

from prsm.node.models.mending import PAUSE_MS, Mending
from prsm.node.models.tasks import TaskState
from prsm.protocol.limits import LEAF_BYTES
from prsm.storage.cid import Cid, decode_cid
from prsm.storage.errors import Corrupt
from prsm.storage.store.pins import ADDED
from tests.tools.model_rooms import Room, open_room, wanted
from tests.tools.paced import PacedSource
from tests.tools.sources import MemorySource

DATA = Random(3).randbytes(3 * LEAF_BYTES)


@dataclass
class HandClock:
    """Time that stands until it is moved."""

    now_ms: int = 1_000

    def monotonic_ms(self) -> int:
        return self.now_ms

    def wall_ms(self) -> int:
        return self.now_ms


@dataclass
class Broken:
    """A room whose only model has a leaf that changed on disk, which was noticed."""

    room: Room
    root: Cid
    clock: HandClock
    mending: Mending

    async def look(self) -> list[TaskState]:
        """States of all tasks, the oldest first, when those that were started are over."""
        await self.mending.look()
        tasks = self.room.models.tasks.list()
        for task in tasks:
            await task.over.wait()
        return [task.state for task in reversed(tasks)]


@pytest.fixture
async def broken(
    tmp_path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Broken]:
    async with open_room(tmp_path) as room:
        room.pool.files = {"model.onnx": DATA}
        (tmp_path / "m.onnx").write_bytes(b"graph")
        known, _ = await room.models.add(wanted(tmp_path / "m.onnx", register=False))
        root = decode_cid(known.manifest.files[0].root)
        path = await room.tools.store.path(root)
        path.chmod(0o600)
        with path.open("r+b") as file:
            file.seek(LEAF_BYTES)
            file.write(b"broken")
        with pytest.raises(Corrupt):
            await room.tools.store.verify(root)
        clock = HandClock()
        monkeypatch.setattr(room.tools.driver, "clock", clock)
        await nursery.start(room.models.tasks.run)
        mending = Mending(room.tools, room.models.fetching, room.models.tasks)
        yield Broken(room, root, clock, mending)


def lend(broken: Broken, monkeypatch: pytest.MonkeyPatch) -> PacedSource:
    """Somebody who has the file."""
    source = PacedSource(MemorySource(DATA), "other")
    monkeypatch.setattr(broken.room.models.fetching, "sources", lambda _cid: [source])
    return source


async def test_only_the_damaged_leaf_is_fetched(
    broken: Broken, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = lend(broken, monkeypatch)
    assert await broken.look() == [TaskState.DONE]
    assert source.asked == [1]
    assert (await broken.room.tools.store.path(broken.root)).read_bytes() == DATA
    assert await broken.look() == [TaskState.DONE]  # no second one: nothing is damaged


async def test_what_nobody_has_is_asked_for_again_after_a_pause(
    broken: Broken, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await broken.look() == [TaskState.FAILED]
    assert await broken.look() == [TaskState.FAILED]
    broken.clock.now_ms += PAUSE_MS
    assert await broken.look() == [TaskState.FAILED] * 2
    broken.clock.now_ms += PAUSE_MS
    assert await broken.look() == [TaskState.FAILED] * 2  # it doubles
    lend(broken, monkeypatch)
    broken.clock.now_ms += PAUSE_MS
    assert (await broken.look())[-1] is TaskState.DONE


async def test_what_nobody_keeps_is_left(broken: Broken, monkeypatch: pytest.MonkeyPatch) -> None:
    source = lend(broken, monkeypatch)
    await broken.room.tools.store.unpin(broken.root, ADDED)
    assert await broken.look() == []
    assert source.asked == []
