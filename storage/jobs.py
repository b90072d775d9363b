"""The port behind which a requester's jobs survive its process, and the SQLite table of it.

Knows: ids, times, whether a job is over; what else is in a row is opaque. Must not know: what a
job does. One battery (`tests/tools/job_battery.py`) runs on every implementation.
"""

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import trio

from prsm.protocol.errors import LocalError
from prsm.storage.database import Database

BODY_BYTES_MAX: Final = 1024 * 1024
OUTPUT_BYTES_MAX: Final = 16 * 1024 * 1024  # larger answers end with the process
PAGE_MAX: Final = 500
_JOB: Final = (
    "CREATE TABLE job(id BLOB PRIMARY KEY, made_ms INTEGER NOT NULL, is_over INTEGER NOT NULL, "
    "state TEXT NOT NULL, body BLOB NOT NULL) WITHOUT ROWID"
)
_OUTPUT: Final = (
    "CREATE TABLE output(id BLOB PRIMARY KEY REFERENCES job(id) ON DELETE CASCADE, "
    "raw BLOB NOT NULL)"
)
_MIGRATIONS: Final = (
    (
        _JOB,
        "CREATE INDEX job_by_age ON job(made_ms, id)",
        "CREATE INDEX job_open ON job(made_ms, id) WHERE is_over=0",
        _OUTPUT,
    ),
)
_COLUMNS: Final = "SELECT id, made_ms, is_over, state, body FROM job "
NEWEST: Final = _COLUMNS + "ORDER BY made_ms DESC, id DESC LIMIT ?"
OLDER: Final = _COLUMNS + "WHERE (made_ms, id) < (?, ?) ORDER BY made_ms DESC, id DESC LIMIT ?"
OPEN: Final = _COLUMNS + "WHERE is_over=0 ORDER BY made_ms, id"
ONE: Final = _COLUMNS + "WHERE id=?"
_PRUNE: Final = (
    "DELETE FROM job WHERE is_over=1 AND id NOT IN "
    "(SELECT id FROM job ORDER BY made_ms DESC, id DESC LIMIT ?)"
)


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job at rest."""

    id: bytes  # 32 bytes
    made_ms: int
    is_over: bool  # nothing more happens to it, and the ledger holds no money of it
    state: str
    body: bytes  # canonical record of whoever runs jobs, at most 1 MiB


class JobStore(Protocol):
    """Jobs by id and by age. A write is durable when it returns, and whole or absent."""

    async def put(self, row: JobRow) -> None:
        """Keep a job, in place of what was kept of it; its output stays.

        Raises:
            LocalError: a body over 1 MiB.
            Full, StoreUnavailable: the disk refused.
        """
        ...

    async def put_output(self, job: bytes, raw: bytes) -> None:
        """Keep what a kept job answered.

        Raises:
            LocalError: over 16 MiB, or no such job.
            Full, StoreUnavailable: the disk refused.
        """
        ...

    async def get(self, job: bytes) -> JobRow | None:
        """One job."""
        ...

    async def output(self, job: bytes) -> bytes | None:
        """What it answered, if that was kept."""
        ...

    async def newest(self, limit: int, *, before: JobRow | None = None) -> Sequence[JobRow]:
        """Jobs from the newest to the oldest, at most 500; `before` goes on after a page."""
        ...

    async def unfinished(self) -> Sequence[JobRow]:
        """Jobs that are not over, the oldest first."""
        ...

    async def prune(self, keep: int) -> int:
        """Forget finished jobs that are not among the newest `keep`; how many."""
        ...

    async def close(self) -> None:
        """Close."""
        ...


class SqliteJobs:
    """The port on one SQLite file."""

    def __init__(self, database: Database) -> None:
        """Wrap an open file; `open` is the way in."""
        self.database = database

    @classmethod
    async def open(cls, path: Path) -> "SqliteJobs":
        """Open or make the file.

        Raises:
            Conflict, StoreUnavailable, Corrupt: as `Database.open`.
        """
        return cls(await Database.open(path, migrations=_MIGRATIONS))

    async def put(self, row: JobRow) -> None:
        """As the port says."""
        check_body(row)
        values = (row.id, row.made_ms, row.is_over, row.state, row.body)

        def write(db: sqlite3.Connection) -> None:
            db.execute(
                "INSERT INTO job VALUES(?, ?, ?, ?, ?) ON CONFLICT(id) DO UPDATE SET "
                "made_ms=excluded.made_ms, is_over=excluded.is_over, state=excluded.state, "
                "body=excluded.body",
                values,
            )

        await self.database.write(write)

    async def put_output(self, job: bytes, raw: bytes) -> None:
        """As the port says."""
        check_output(raw)

        def write(db: sqlite3.Connection) -> bool:
            if db.execute("SELECT 1 FROM job WHERE id=?", (job,)).fetchone() is None:
                return False
            db.execute("INSERT OR REPLACE INTO output VALUES(?, ?)", (job, raw))
            return True

        if not await self.database.write(write):
            raise unknown(job)

    async def get(self, job: bytes) -> JobRow | None:
        """As the port says."""
        rows = await self._rows(ONE, (job,))
        return rows[0] if rows else None

    async def output(self, job: bytes) -> bytes | None:
        """As the port says."""

        def read(db: sqlite3.Connection) -> bytes | None:
            found = db.execute("SELECT raw FROM output WHERE id=?", (job,)).fetchone()
            return None if found is None else bytes(found[0])

        return await self.database.read(read)

    async def newest(self, limit: int, *, before: JobRow | None = None) -> Sequence[JobRow]:
        """As the port says."""
        limit = min(limit, PAGE_MAX)
        if before is None:
            return await self._rows(NEWEST, (limit,))
        return await self._rows(OLDER, (before.made_ms, before.id, limit))

    async def unfinished(self) -> Sequence[JobRow]:
        """As the port says."""
        return await self._rows(OPEN, ())

    async def prune(self, keep: int) -> int:
        """As the port says."""
        return await self.database.write(lambda db: db.execute(_PRUNE, (keep,)).rowcount)

    async def close(self) -> None:
        """As the port says."""
        await self.database.close()

    async def _rows(self, query: str, values: Sequence[object]) -> list[JobRow]:
        def read(db: sqlite3.Connection) -> list[JobRow]:
            return [
                JobRow(job, made_ms, bool(is_over), state, body)
                for job, made_ms, is_over, state, body in db.execute(query, values)
            ]

        return await self.database.read(read)


@asynccontextmanager
async def kept_jobs(path: Path) -> AsyncIterator[JobStore]:
    """The jobs of a file, for the time of the block.

    Raises:
        Conflict, StoreUnavailable, Corrupt: as `Database.open`.
    """
    store = await SqliteJobs.open(path)
    try:
        yield store
    finally:
        with trio.CancelScope(shield=True):  # bounded: closing a file
            await store.close()


def check_body(row: JobRow) -> None:
    """Check a row before it is kept.

    Raises:
        LocalError: an id of another length, or a body over 1 MiB.
    """
    if len(row.id) != 32 or len(row.body) > BODY_BYTES_MAX:
        raise LocalError(f"a job's row of {len(row.body)} bytes, at most {BODY_BYTES_MAX}")


def check_output(raw: bytes) -> None:
    """Check an answer before it is kept.

    Raises:
        LocalError: over 16 MiB.
    """
    if len(raw) > OUTPUT_BYTES_MAX:
        raise LocalError(f"an answer of {len(raw)} bytes, at most {OUTPUT_BYTES_MAX} are kept")


def unknown(job: bytes) -> LocalError:
    """What `put_output` says of a job that is not kept."""
    return LocalError(f"no job {job.hex()[:16]} is kept")
