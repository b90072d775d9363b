"""The battery every `JobStore` passes."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from prsm.protocol.errors import LocalError
from prsm.storage.jobs import BODY_BYTES_MAX, OUTPUT_BYTES_MAX, JobRow, JobStore

# Opens the store; a call after close() opens what was kept.
MakeJobs = Callable[[], Awaitable[JobStore]]


def row(number: int, *, made_ms: int | None = None, is_over: bool = True) -> JobRow:
    return JobRow(
        id=number.to_bytes(32, "big"),
        made_ms=number if made_ms is None else made_ms,
        is_over=is_over,
        state="done" if is_over else "running",
        body=b"body %d" % number,
    )


async def check_job_store(make: MakeJobs) -> None:
    """Run the battery on an empty store."""
    store = await make()
    assert await store.get(row(1).id) is None
    assert list(await store.newest(10)) == []
    assert list(await store.unfinished()) == []
    assert await store.prune(0) == 0
    # kept, changed, and still there after it was opened anew
    open_job = row(2, is_over=False)
    for each in (row(1), open_job, row(3)):
        await store.put(each)
    await store.put_output(open_job.id, b"an answer")
    await store.put(replace(open_job, state="settling"))
    assert await store.output(open_job.id) == b"an answer"
    assert [each.state for each in await store.unfinished()] == ["settling"]
    await store.put(replace(open_job, is_over=True, state="done"))
    await store.close()
    store = await make()
    assert await store.get(open_job.id) == replace(open_job, is_over=True, state="done")
    assert await store.output(open_job.id) == b"an answer"
    assert await store.output(row(1).id) is None
    assert list(await store.unfinished()) == []
    await _check_pages(store)
    await _check_refusals(store)
    # pruning leaves the newest, and what is not over
    await store.put(row(0, is_over=False))
    assert await store.prune(3) == 8
    left = await store.newest(500)
    assert [each.id for each in left] == [row(n).id for n in (11, 10, 9, 0)]
    assert await store.output(open_job.id) is None
    await store.close()


async def _check_pages(store: JobStore) -> None:
    """By age, ties by id."""
    for number in range(4, 12):
        await store.put(row(number, made_ms=7))
    seen: list[JobRow] = []
    before: JobRow | None = None
    while page := await store.newest(5, before=before):
        assert len(page) <= 5
        seen += page
        before = page[-1]
    assert seen == sorted(seen, key=lambda each: (each.made_ms, each.id), reverse=True)
    assert len(seen) == 11


async def _check_refusals(store: JobStore) -> None:
    """They change nothing."""
    with pytest.raises(LocalError, match="at most"):
        await store.put(replace(row(50), body=bytes(BODY_BYTES_MAX + 1)))
    with pytest.raises(LocalError, match="at most"):
        await store.put_output(row(1).id, bytes(OUTPUT_BYTES_MAX + 1))
    with pytest.raises(LocalError, match="no job"):
        await store.put_output(row(50).id, b"x")
    assert await store.get(row(50).id) is None
