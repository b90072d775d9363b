"""The port of jobs in a dictionary; what is kept lives as long as the object handed on."""

from collections.abc import Collection, Sequence

import trio

from prsm.storage.jobs import PAGE_MAX, JobRow, check_body, check_output, unknown


class MemoryJobs:
    """Rows and answers; reopened by handing `kept` to another."""

    def __init__(self, kept: "MemoryJobs | None" = None) -> None:
        self.rows: dict[bytes, JobRow] = {} if kept is None else kept.rows
        self.outputs: dict[bytes, bytes] = {} if kept is None else kept.outputs
        self.log: list[str] = []
        self._changed = trio.Event()

    async def wait_rows(self, ids: Collection[bytes]) -> None:
        """Wait until these rows are left."""
        while set(self.rows) != set(ids):
            await self._changed.wait()

    async def put(self, row: JobRow) -> None:
        check_body(row)
        await trio.lowlevel.checkpoint()
        self.rows[row.id] = row
        self.log.append(row.state)

    async def put_output(self, job: bytes, raw: bytes) -> None:
        check_output(raw)
        await trio.lowlevel.checkpoint()
        if job not in self.rows:
            raise unknown(job)
        self.outputs[job] = raw

    async def get(self, job: bytes) -> JobRow | None:
        await trio.lowlevel.checkpoint()
        return self.rows.get(job)

    async def output(self, job: bytes) -> bytes | None:
        await trio.lowlevel.checkpoint()
        return self.outputs.get(job)

    async def newest(self, limit: int, *, before: JobRow | None = None) -> Sequence[JobRow]:
        await trio.lowlevel.checkpoint()
        ordered = sorted(self.rows.values(), key=_age, reverse=True)
        older = [row for row in ordered if before is None or _age(row) < _age(before)]
        return older[: min(limit, PAGE_MAX)]

    async def unfinished(self) -> Sequence[JobRow]:
        await trio.lowlevel.checkpoint()
        return sorted((row for row in self.rows.values() if not row.is_over), key=_age)

    async def prune(self, keep: int) -> int:
        kept = {row.id for row in await self.newest(keep)}
        gone = [row.id for row in self.rows.values() if row.is_over and row.id not in kept]
        for job in gone:
            del self.rows[job]
            self.outputs.pop(job, None)
        self._changed.set()
        self._changed = trio.Event()
        return len(gone)

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()


def _age(row: JobRow) -> tuple[int, bytes]:
    return (row.made_ms, row.id)
