"""First answers of calls that may come again, kept for a day: the port's SQLite table.

Knows: names of calls (hashes), digests of what they asked, opaque answers, times. Must not know:
methods, callers.

Invariants: a call is written down before it runs, its answer before it is given; what was begun
and has no answer may have happened.
"""

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prsm.storage.database import Database

CALLS_MAX: Final = 100_000
ANSWER_BYTES_MAX: Final = 256 * 1024
ALL_BYTES_MAX: Final = 256 * 1024 * 1024
_CALL: Final = (
    "CREATE TABLE call(name BLOB PRIMARY KEY, made_ms INTEGER NOT NULL, digest BLOB NOT NULL, "
    "state INTEGER NOT NULL, answer BLOB) WITHOUT ROWID"
)
_MIGRATIONS: Final = ((_CALL, "CREATE INDEX call_by_age ON call(made_ms)"),)
_BEGUN: Final = 0
_ANSWERED: Final = 1
_SIZES: Final = "SELECT count(*), coalesce(sum(length(answer)), 0) FROM call"


@dataclass(frozen=True, slots=True)
class KeptCall:
    """A call that came before.

    Attributes:
        digest: of what it asked.
        is_over: whether it is known to have ended.
        answer: what it was told; None if that is not known, or not kept.
    """

    digest: bytes
    is_over: bool
    answer: bytes | None


class AnswerStore:
    """Calls by name, in one file."""

    def __init__(self, database: Database) -> None:
        """Wrap an open file; `open` is the way in."""
        self._database = database
        self._count = 0
        self._size = 0

    @classmethod
    async def open(cls, path: Path) -> "AnswerStore":
        """Open or make the file.

        Raises:
            Conflict, StoreUnavailable, Corrupt: as `Database.open`.
        """
        store = cls(await Database.open(path, migrations=_MIGRATIONS, readers=1))
        await store.forget_before(0)
        return store

    async def begin(self, name: bytes, digest: bytes, *, now_ms: int) -> KeptCall | None:
        """Write down that a call runs now, unless it came before; durable when this returns.

        Args:
            name: 32 bytes: whose call, by which key.
            digest: 32 bytes: what it asks.
            now_ms: wall clock.

        Returns:
            What is kept of the first one; None: this is the first.

        Raises:
            Full, StoreUnavailable: the disk refused; nothing is written.
        """

        def write(db: sqlite3.Connection) -> KeptCall | None:
            found = db.execute(
                "SELECT digest, state, answer FROM call WHERE name=?", (name,)
            ).fetchone()
            if found is not None:
                return KeptCall(bytes(found[0]), found[1] == _ANSWERED, found[2])
            db.execute("INSERT INTO call VALUES(?, ?, ?, ?, NULL)", (name, now_ms, digest, _BEGUN))
            return None

        kept = await self._database.write(write)
        self._count += kept is None
        return kept

    async def finish(self, name: bytes, answer: bytes | None) -> None:
        """Keep what a call was told; None, and one too large, counts as over without an answer.

        Raises:
            Full, StoreUnavailable: the disk refused; the call stays begun.
        """
        size = len(answer or b"")
        has_room = size <= ANSWER_BYTES_MAX and self._size + size <= ALL_BYTES_MAX
        raw = answer if has_room else None
        self._size += len(raw or b"")

        def write(db: sqlite3.Connection) -> None:
            db.execute("UPDATE call SET state=?, answer=? WHERE name=?", (_ANSWERED, raw, name))

        await self._database.write(write)

    async def forget(self, name: bytes) -> None:
        """Forget a call that had no effect: the next one of its name is a first one.

        Raises:
            StoreUnavailable: the disk refused.
        """

        def write(db: sqlite3.Connection) -> int:
            return db.execute("DELETE FROM call WHERE name=?", (name,)).rowcount

        self._count -= await self._database.write(write)

    async def forget_before(self, made_ms: int) -> None:
        """Forget calls of before a time.

        Raises:
            StoreUnavailable: the disk refused.
        """

        def write(db: sqlite3.Connection) -> tuple[int, int]:
            db.execute("DELETE FROM call WHERE made_ms<?", (made_ms,))
            count, size = db.execute(_SIZES).fetchone()
            return int(count), int(size)

        self._count, self._size = await self._database.write(write)

    @property
    def is_full(self) -> bool:
        """Is there no place for one more call?"""
        return self._count >= CALLS_MAX

    async def close(self) -> None:
        """Close the file."""
        await self._database.close()
