"""What broke on disk or was cut short is fetched by itself, only what lacks of it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
import trio

from prsm.node.models.mending import ASKS_NOBODY, PAUSE_MS, Mending
from prsm.node.models.meter import Meter
from prsm.node.models.taskfile import TaskState
from prsm.node.models.tasks import Task, TaskInterrupted
from prsm.protocol.limits import LEAF_BYTES
from prsm.storage.cid import Cid, decode_cid
from prsm.storage.errors import Corrupt
from prsm.storage.store.pins import ADDED
from tests.tools.model_rooms import Room, open_room, wanted
from tests.tools.paced import Manner, PacedSource
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
        mending = Mending(room.tools, room.models.fetching, room.models.tasks, room.models.resolve)
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


def was_at_work(broken: Broken, kind: str, ref: str) -> Task:
    """A task that the last run of the node was at when it ended."""
    clock = broken.room.tools.driver.clock
    token = trio.lowlevel.current_trio_token()
    task = Task(f"{kind}-1", kind, ref, Meter(0), 1, clock, token)
    task.state, task.error = TaskState.FAILED, TaskInterrupted("the node ended")
    task.over.set()
    broken.room.models.tasks._tasks[task.id] = task
    return task


@pytest.mark.parametrize("kind", ["pull", "repair"])
async def test_fetch_that_was_cut_short_goes_on(
    broken: Broken, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has it at first, and it has no pin; then it is whole, and nothing more is done."""
    await broken.room.tools.store.unpin(broken.root, ADDED)
    (cid,) = [cid for cid, _ in await broken.room.tools.store.models()]
    was_at_work(broken, kind, str(cid))
    assert await broken.look() == [TaskState.FAILED] * 2
    assert await broken.look() == [TaskState.FAILED] * 2
    source = lend(broken, monkeypatch)
    broken.clock.now_ms += PAUSE_MS
    assert (await broken.look())[-1] is TaskState.DONE
    assert source.asked == [1]
    broken.clock.now_ms += 10 * PAUSE_MS
    assert len(await broken.look()) == 3


async def test_fetch_that_somebody_ends_does_not_go_on_again(
    broken: Broken, monkeypatch: pytest.MonkeyPatch
) -> None:
    await broken.room.tools.store.unpin(broken.root, ADDED)
    (cid,) = [cid for cid, _ in await broken.room.tools.store.models()]
    was_at_work(broken, "pull", str(cid))
    deaf = PacedSource(MemorySource(DATA), "deaf", manner=Manner.DEAF)
    monkeypatch.setattr(broken.room.models.fetching, "sources", lambda _cid: [deaf])
    await broken.mending.look()
    task = broken.room.models.tasks.cancel("repair-")
    await task.over.wait()
    assert task.state is TaskState.CANCELLED
    broken.clock.now_ms += PAUSE_MS
    assert len(await broken.look()) == 2


@pytest.mark.parametrize(("kind", "mark"), [("verify", ""), ("pull", ASKS_NOBODY)])
async def test_other_work_that_was_cut_short_is_only_told(
    broken: Broken, kind: str, mark: str
) -> None:
    await broken.room.tools.store.unpin(broken.root, ADDED)
    (cid,) = [cid for cid, _ in await broken.room.tools.store.models()]
    was_at_work(broken, kind, f"{cid}{mark}")
    assert await broken.look() == [TaskState.FAILED]
