"""Long work that outlives its caller: joined, watched, ended, forgotten."""

from pathlib import Path
from typing import Final

import msgspec
import pytest
import trio
import trio.testing

from prsm.node.clock import TrioClock
from prsm.node.models.taskfile import Noted, TaskState, load_tasks
from prsm.node.models.tasks import (
    KEPT_MAX,
    TASKS_MAX,
    ResultGone,
    Task,
    TaskCancelled,
    TaskInterrupted,
    Tasks,
)
from prsm.node.net.interface import Busy
from prsm.protocol.errors import LocalError
from prsm.storage.errors import Full, NotFound


@pytest.fixture
async def tasks(nursery: trio.Nursery) -> Tasks:
    made = Tasks(TrioClock())
    await nursery.start(made.run)
    return made


async def sleeps(task: Task) -> None:
    task.report(5, 10)
    await trio.sleep_forever()


async def test_a_task_outlives_its_caller_and_keeps_its_result(tasks: Tasks) -> None:
    """The caller is cancelled in the middle; the work ends all the same."""
    go = trio.Event()

    async def work(task: Task) -> object:
        await go.wait()
        task.report(7, 7)
        return "answer"

    with trio.move_on_after(0):
        await tasks.do("pull", "a", work)
    (task,) = tasks.list()
    assert task.state is TaskState.RUNNING
    go.set()
    await task.over.wait()
    assert (task.state, task.answer(), task.meter.done) == (TaskState.DONE, "answer", 7)


async def test_work_that_is_being_ended_is_not_joined(tasks: Tasks) -> None:
    """Its end takes as long as a thread does: who came meanwhile was told it was cancelled."""
    go = trio.Event()

    async def hashes(_task: Task) -> object:
        with trio.CancelScope(shield=True):  # as a thread that nobody can cut off
            await go.wait()
        return await trio.sleep_forever()

    first = tasks.start("verify", "a", hashes, tenant="lab-a")
    await trio.testing.wait_all_tasks_blocked()
    tasks.cancel(first.id, "lab-a")
    try:
        with pytest.raises(Busy, match="being ended") as busy:
            tasks.start("verify", "a", hashes, tenant="lab-b")
    finally:
        go.set()
    assert busy.value.retry_after_ms
    await first.over.wait()
    assert first.state is TaskState.CANCELLED
    assert tasks.start("verify", "a", hashes, tenant="lab-b").state is TaskState.RUNNING


async def test_the_same_work_is_done_once(tasks: Tasks) -> None:
    first = tasks.start("pull", "a", sleeps)
    assert tasks.start("pull", "a", sleeps) is first
    assert tasks.start("verify", "a", sleeps) is not first
    tasks.cancel(first.id)
    await first.over.wait()
    assert tasks.start("pull", "a", sleeps) is not first


async def test_a_cancelled_task_says_how_far_it_came(tasks: Tasks) -> None:
    task = tasks.start("pull", "a", sleeps)
    await trio.testing.wait_all_tasks_blocked()
    tasks.cancel(task.id)
    await task.over.wait()
    assert task.state is TaskState.CANCELLED
    with pytest.raises(TaskCancelled, match="after 5 bytes"):
        task.answer()
    assert tasks.cancel(task.id).state is TaskState.CANCELLED


async def test_failures_keep_their_type_and_hurt_nobody_else(tasks: Tasks) -> None:
    async def full(_task: Task) -> object:
        await trio.lowlevel.checkpoint()
        raise Full("no room")

    async def broken(_task: Task) -> object:
        await trio.lowlevel.checkpoint()
        raise RuntimeError("secret")

    other = tasks.start("pull", "other", sleeps)
    with pytest.raises(Full):
        await tasks.do("pull", "a", full)
    with pytest.raises(LocalError, match="RuntimeError") as caught:
        await tasks.do("pull", "b", broken)
    assert "secret" not in caught.value.what
    assert other.state is TaskState.RUNNING


async def test_tasks_are_bounded_and_the_oldest_that_ended_are_forgotten(tasks: Tasks) -> None:
    for number in range(TASKS_MAX):
        tasks.start("pull", str(number), sleeps)
    with pytest.raises(Busy):
        tasks.start("pull", "one more", sleeps)

    async def nothing(_task: Task) -> object:
        return None

    for task in tasks.list():
        tasks.cancel(task.id)
        await task.over.wait()
    for number in range(KEPT_MAX + 5):
        await tasks.do("verify", str(number), nothing)
    assert len(tasks.list()) <= KEPT_MAX + 1
    assert tasks.list()[0].subject == str(KEPT_MAX + 4)


async def test_ids_are_found_by_a_prefix_of_their_own(tasks: Tasks) -> None:
    one, two = tasks.start("pull", "a", sleeps), tasks.start("pull", "b", sleeps)
    assert tasks.get(one.id[:-1]) is one or one.id[:-1] == two.id[:-1]
    with pytest.raises(NotFound, match="2 tasks"):
        tasks.get("pull-")
    with pytest.raises(NotFound, match="no such"):
        tasks.get("gone")


async def test_without_its_nursery_nothing_starts() -> None:
    with pytest.raises(Busy):
        Tasks(TrioClock()).start("pull", "a", sleeps)


async def test_what_ran_when_the_node_ended_is_told_by_the_next_run(tmp_path: Path) -> None:
    """One task done, one failed, one at work when the process ends; a killed one writes nothing."""
    path = tmp_path / "tasks.json"

    async def succeed(task: Task) -> object:
        task.report(9, 9)
        return "answer"

    async def fail(_task: Task) -> object:
        raise Full("no room", hint="free some")

    async with trio.open_nursery() as nursery:
        first = Tasks(TrioClock(), path)
        await nursery.start(first.run)
        done = first.start("pull", "a", succeed)
        failed = first.start("add", "b", fail)
        broken = first.start("scrub", "all files", sleeps, again="prsm storage scrub")
        await failed.over.wait()
        while {noted.state for noted in load_tasks(path)} != {
            TaskState.DONE,
            TaskState.FAILED,
            TaskState.RUNNING,
        }:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    async with trio.open_nursery() as nursery:
        second = Tasks(TrioClock(), path)
        await nursery.start(second.run)
        states = {task.id: task.state for task in second.list()}
        assert states == {
            done.id: TaskState.DONE,
            failed.id: TaskState.FAILED,
            broken.id: TaskState.FAILED,
        }
        assert second.get(done.id).meter.done == 9
        assert second.get(done.id).error is None
        with pytest.raises(ResultGone, match="earlier run"):
            second.get(done.id).answer()
        with pytest.raises(LocalError, match="no room") as told:
            second.get(failed.id).answer()
        assert (told.value.reason, told.value.hint) == ("disk_full", "free some")
        with pytest.raises(TaskInterrupted, match="during scrub of all files") as cut:
            second.get(broken.id).answer()
        assert cut.value.hint == "type it again: prsm storage scrub"
        assert second.start("scrub", "all files", sleeps) is not broken
        nursery.cancel_scope.cancel()


async def test_results_outlive_a_crash_of_the_part(tmp_path: Path) -> None:
    """What the file says is for the next process: it knows no results."""
    path = tmp_path / "tasks.json"
    tasks = Tasks(TrioClock(), path)

    async def succeed(_task: Task) -> object:
        await trio.lowlevel.checkpoint()
        return "answer"

    async with trio.open_nursery() as nursery:
        await nursery.start(tasks.run)
        done, broken = tasks.start("pull", "a", succeed), tasks.start("scrub", "b", sleeps)
        await done.over.wait()
        while {noted.state for noted in load_tasks(path)} != {TaskState.DONE, TaskState.RUNNING}:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    async with trio.open_nursery() as nursery:
        await nursery.start(tasks.run)
        assert tasks.get(done.id).answer() == "answer"
        with pytest.raises(TaskInterrupted):
            tasks.get(broken.id).answer()
        nursery.cancel_scope.cancel()


WHOLE: Final = Noted("add-1", "add", "a", TaskState.FAILED, 1, 2, 3, 4, "disk_full", "no", "")


async def test_notes_of_an_older_program_are_read(tmp_path: Path, nursery: trio.Nursery) -> None:
    """They do not say what to type."""
    raw = (
        msgspec.json.encode([WHOLE]).replace(b',"again":""', b"").replace(b'"failed"', b'"running"')
    )
    (tmp_path / "tasks.json").write_bytes(raw)
    made = Tasks(TrioClock(), tmp_path / "tasks.json")
    await nursery.start(made.run)
    with pytest.raises(TaskInterrupted) as cut:
        made.get("add-1").answer()
    assert cut.value.hint == "start it again"


@pytest.mark.parametrize(
    "raw",
    [
        b"[{",
        b'["\xff"]',
        msgspec.json.encode([WHOLE]).replace(b'"failed"', b'"paused"'),
        msgspec.json.encode([WHOLE]).replace(b'"add"', b'"\xff"'),
        msgspec.json.encode([WHOLE]).replace(b'"done":4', b'"done":-4'),
        msgspec.json.encode([WHOLE]).replace(b'"size":3', b'"size":%d' % 2**70),
        b'[{"other":' + b"[" * 100_000,
    ],
    ids=["torn", "no text", "state", "name", "below 0", "huge", "deep"],
)
async def test_damaged_notes_are_no_notes(
    raw: bytes, tmp_path: Path, nursery: trio.Nursery
) -> None:
    (tmp_path / "tasks.json").write_bytes(raw)
    made = Tasks(TrioClock(), tmp_path / "tasks.json")
    await nursery.start(made.run)
    assert made.list() == ()
