"""The process of vectors: answers, survives kill -9 whole, and a broken one is replaced."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
import trio

from prsm.node.retrieval import vectors
from prsm.node.retrieval.vectors import VectorProcess, VectorsFailed
from prsm.storage.vectors.exact import ExactVectors
from prsm.storage.vectors.interface import Condition, Entry
from tests.tools.vector_battery import DIMENSION, entry, pack, random_entry

QUERY = pack([1.0] * DIMENSION)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[trio.Process]]:
    """Processes in the order of their start."""
    found: list[trio.Process] = []
    real = trio.lowlevel.open_process

    async def open_process(*args: object, **options: object) -> trio.Process:
        found.append(await real(*args, **options))  # type: ignore[call-overload]  # passed on
        return found[-1]

    monkeypatch.setattr(vectors.trio.lowlevel, "open_process", open_process)  # type: ignore[attr-defined]  # of the module
    yield found
    assert all(process.returncode is not None for process in found)


@pytest.mark.slow
async def test_process_keeps_finds_and_deletes(tmp_path: Path, started: list[trio.Process]) -> None:
    store = VectorProcess(tmp_path / "v", dimension=DIMENSION)
    dice = Random(1)
    entries = [random_entry(number, dice) for number in range(600)]
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        assert not started
        await store.upsert(entries)
        assert await store.count() == (600, "exact")
        hits = await store.search(entries[5].vector, limit=3)
        assert (hits[0].id, hits[0].score) == (entries[5].id, 1_000_000)
        only = await store.search(QUERY, limit=9, where=[Condition("task", "=", "a")])
        assert {hit.labels["task"] for hit in only} == {"a"}
        assert list(await store.labels()) == [each.id for each in entries]
        await store.delete([each.id for each in entries[:599]])
        await store.rebuild()
        assert await store.count() == (1, "exact")
        with pytest.raises(VectorsFailed, match="a vector of 1 bytes"):
            await store.search(b"x", limit=1)
        assert len(started) == 1
        nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_killed_process_loses_no_acknowledged_batch_and_is_replaced(
    tmp_path: Path, started: list[trio.Process]
) -> None:
    store = VectorProcess(tmp_path / "v", dimension=DIMENSION)
    dice = Random(2)
    acknowledged = count = 0

    async def write(cut: int, is_enough: trio.Event) -> None:
        """Write until the process is gone, and say when `cut` more entries are there."""
        nonlocal acknowledged
        first = acknowledged
        while True:
            batch = [random_entry(acknowledged + i, dice) for i in range(10)]
            try:
                await store.upsert(batch)
            except VectorsFailed:
                return
            acknowledged += 10
            if acknowledged - first >= cut:
                is_enough.set()

    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        for cut in (30, 60):
            is_enough = trio.Event()
            async with trio.open_nursery() as writers:
                writers.start_soon(write, cut, is_enough)
                await is_enough.wait()
                os.kill(started[-1].pid, signal.SIGKILL)
            count, _ = await store.count()
            assert acknowledged <= count <= acknowledged + 10
            assert count % 10 == 0
        assert len(started) == 3
        nursery.cancel_scope.cancel()
    again = ExactVectors(tmp_path / "v", dimension=DIMENSION)
    assert again.count() == count
    again.close()


@pytest.mark.parametrize(
    ("program", "fault"),
    [
        ("import sys; sys.stdin.buffer.read(5)", "broke off: it ended with 0"),
        ("import sys; sys.stdout.buffer.write(b'\\xff' * 5); sys.stdout.flush()", "broke off"),
        ("import os; os.write(1, bytes([0, 0, 0, 1, 7, 9]))", "broke off"),
    ],
)
async def test_nonsense_from_the_process_is_a_typed_error(
    tmp_path: Path, program: str, fault: str
) -> None:
    store = VectorProcess(
        tmp_path / "v", dimension=DIMENSION, command=[sys.executable, "-c", program]
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        with pytest.raises(VectorsFailed, match=fault):
            await store.count()
        nursery.cancel_scope.cancel()


async def test_program_that_is_not_there_is_a_typed_error(tmp_path: Path) -> None:
    store = VectorProcess(tmp_path / "v", dimension=DIMENSION, command=["/no/such/program"])
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        with pytest.raises(VectorsFailed, match="does not start"):
            await store.upsert([entry(1, [1.0] * DIMENSION)])
        nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_damaged_file_is_put_aside_and_a_foreign_one_is_said(
    tmp_path: Path, started: list[trio.Process]
) -> None:
    damaged, foreign = tmp_path / "deep" / "v", tmp_path / "w"
    damaged.parent.mkdir()
    damaged.write_bytes(b"no database" * 1000)
    ExactVectors(foreign, dimension=3).close()
    async with trio.open_nursery() as nursery:
        for path in (damaged, foreign):
            store = VectorProcess(path, dimension=DIMENSION)
            await nursery.start(store.run)
            if path == damaged:
                assert await store.count() == (0, "exact")
                assert damaged.with_name("v.damaged").exists()
            else:
                with pytest.raises(VectorsFailed, match="vectors of 3 numbers, not 8"):
                    await store.count()
        assert len(started) == 2
        nursery.cancel_scope.cancel()


def test_entries_of_the_daemon_need_no_array_library() -> None:
    assert Entry(b"a", QUERY).vector == QUERY
