"""Every `JobStore` passes one battery; the table's queries use its indexes."""

import sqlite3
from pathlib import Path

import pytest

from prsm.storage.jobs import NEWEST, OLDER, ONE, OPEN, JobStore, SqliteJobs
from tests.tools.job_battery import check_job_store
from tests.tools.memory_jobs import MemoryJobs


async def test_table_passes_the_battery(tmp_path: Path) -> None:
    async def make() -> JobStore:
        return await SqliteJobs.open(tmp_path / "jobs.db")

    await check_job_store(make)


async def test_memory_passes_the_battery() -> None:
    kept = MemoryJobs()

    async def make() -> JobStore:
        return MemoryJobs(kept)

    await check_job_store(make)


@pytest.mark.parametrize(
    ("query", "values"),
    [(NEWEST, (5,)), (OLDER, (1, b"", 5)), (OPEN, ()), (ONE, (b"",))],
    ids=["newest", "older", "open", "one"],
)
async def test_no_query_reads_all_jobs_or_sorts_them(
    tmp_path: Path, query: str, values: tuple[object, ...]
) -> None:
    store = await SqliteJobs.open(tmp_path / "jobs.db")

    def plan(db: sqlite3.Connection) -> list[str]:
        return [str(step[3]) for step in db.execute(f"EXPLAIN QUERY PLAN {query}", values)]

    steps = await store.database.read(plan)
    await store.close()
    assert not any("TEMP B-TREE" in step for step in steps), steps
    assert all("USING" in step for step in steps), steps
