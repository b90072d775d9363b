"""Vectors at rest: one SQLite file, each write one transaction.

Knows: rows. Must not know: cosines. The standard module, not aiosqlite: this runs in a process
of its own that does one thing at a time. WAL and FULL, so that what was acknowledged is there
after a power cut, whole.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from prsm.storage.errors import Conflict, Corrupt, StoreUnavailable
from prsm.storage.vectors.interface import Entry, Label

SCHEMA: Final = 1
_labels: Final = msgspec.msgpack.Decoder(dict[str, Label])
_CREATE: Final = (
    "CREATE TABLE entry(id BLOB PRIMARY KEY, vector BLOB, labels BLOB, version) WITHOUT ROWID",
    "CREATE TABLE fact(name TEXT PRIMARY KEY, value INTEGER) WITHOUT ROWID",
)


class Table:
    """Rows of a vector store; `version` of a row rises over all rows with each write."""

    def __init__(self, path: Path, *, dimension: int) -> None:
        """Open or make a file.

        Raises:
            Conflict: made for vectors of another dimension, or another process writes it.
            StoreUnavailable: of a newer version, or the disk refused.
            Corrupt: damaged.
        """
        self._path = path
        try:
            self._db = sqlite3.connect(path, isolation_level=None, timeout=0)
            self._prepare(dimension)
        except sqlite3.DatabaseError as error:
            raise _typed(path, error) from error
        self._version = self._fact("version")

    @property
    def version(self) -> int:
        """Number of the last write."""
        return self._version

    def put(self, entries: Sequence[Entry]) -> int:
        """Write entries in one transaction; the version they have."""
        version = self._version + 1
        rows = [
            (entry.id, entry.vector, msgspec.msgpack.encode(dict(entry.labels)), version)
            for entry in entries
        ]
        with _transaction(self._db, self._path):
            self._db.executemany("INSERT OR REPLACE INTO entry VALUES(?, ?, ?, ?)", rows)
            self._db.execute("UPDATE fact SET value=? WHERE name='version'", (version,))
        self._version = version
        return version

    def remove(self, ids: Sequence[bytes]) -> None:
        """Delete rows in one transaction."""
        with _transaction(self._db, self._path):
            self._db.executemany("DELETE FROM entry WHERE id=?", [(each,) for each in ids])

    def rows(self) -> Iterator[tuple[Entry, int]]:
        """All entries ascending by id, each with its version."""
        query = "SELECT id, vector, labels, version FROM entry ORDER BY id"
        for entry_id, vector, labels, version in self._db.execute(query):
            yield Entry(entry_id, vector, _labels.decode(labels)), version

    def compact(self) -> None:
        """Give freed pages back to the disk."""
        self._db.execute("VACUUM")
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close; twice is once."""
        self._db.close()

    def _prepare(self, dimension: int) -> None:
        # The lock is held while open: two writers would not see each other's rows in memory.
        self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("BEGIN IMMEDIATE")
        (found,) = self._db.execute("PRAGMA user_version").fetchone()
        if found == 0:
            for statement in _CREATE:
                self._db.execute(statement)
            facts = (("dimension", dimension), ("version", 0))
            self._db.executemany("INSERT INTO fact VALUES(?, ?)", facts)
            self._db.execute(f"PRAGMA user_version={SCHEMA}")
        self._db.execute("COMMIT")
        if found > SCHEMA:
            raise StoreUnavailable(
                f"{self._path.name} is of version {found}, this program knows {SCHEMA}",
                hint="use the newer program, or delete the file: it is made anew",
            )
        if (kept := self._fact("dimension")) != dimension:
            raise Conflict(f"{self._path.name} keeps vectors of {kept} numbers, not {dimension}")
        (verdict,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise Corrupt(f"{self._path.name} is damaged: {verdict[:100]}")

    def _fact(self, name: str) -> int:
        (value,) = self._db.execute("SELECT value FROM fact WHERE name=?", (name,)).fetchone()
        return int(value)


class _transaction:  # noqa: N801 - used as a statement
    """All of it or nothing, on disk when it ends."""

    def __init__(self, db: sqlite3.Connection, path: Path) -> None:
        self._db, self._path = db, path

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, error: BaseException | None, _trace: object) -> None:
        try:
            self._db.execute("COMMIT" if error is None else "ROLLBACK")
        except sqlite3.DatabaseError as failure:
            self._db.execute("ROLLBACK")
            raise _typed(self._path, failure) from failure
        if isinstance(error, sqlite3.DatabaseError):
            raise _typed(self._path, error) from error


def _typed(path: Path, error: sqlite3.DatabaseError) -> Conflict | Corrupt | StoreUnavailable:
    if isinstance(error, sqlite3.OperationalError):
        if "locked" in str(error):
            return Conflict(f"{path.name} is used by another process")
        return StoreUnavailable(f"{path.name}: {error}", hint="is the disk full or read-only?")
    return Corrupt(f"{path.name} is damaged: {error}", hint="delete it: it is made anew")
