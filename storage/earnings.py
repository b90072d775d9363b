"""What became of each unit this node did for others, and the sums: one SQLite file.

The money is on the ledger, which forgets closed escrows; this is the worker's own account of it.

Knows: rows, sums, pages. Must not know: receipts, ledgers, how a verdict is reached.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prsm.storage.database import Database

ROWS_MAX: Final = 100_000  # about 20 MiB; older rows go, what they came to stays in the sums
PAGE_MAX: Final = 1_000
_COLUMNS: Final = (
    "job, unit, model, requester, kind, rows, price_per_row, paid, wrong, is_counted, height, "
    "time_ms"
)
_UNIT: Final = (
    "CREATE TABLE unit(seq INTEGER PRIMARY KEY AUTOINCREMENT, job BLOB NOT NULL, "
    "unit INTEGER NOT NULL, model BLOB NOT NULL, requester BLOB NOT NULL, kind TEXT NOT NULL, "
    "rows INTEGER NOT NULL, price_per_row INTEGER NOT NULL, paid INTEGER NOT NULL, "
    "wrong INTEGER NOT NULL, is_counted INTEGER NOT NULL, height INTEGER NOT NULL, "
    "time_ms INTEGER NOT NULL, UNIQUE(job, unit))"
)
_PRUNED: Final = (
    "CREATE TABLE pruned(units INTEGER NOT NULL, rows INTEGER NOT NULL, paid INTEGER NOT NULL, "
    "wrong INTEGER NOT NULL, unpaid INTEGER NOT NULL)"
)
_MIGRATIONS: Final = (
    (
        _UNIT,
        "CREATE INDEX unit_by_time ON unit(time_ms)",
        _PRUNED,
        "INSERT INTO pruned VALUES(0, 0, 0, 0, 0)",
    ),
)
_PUT: Final = f"INSERT OR IGNORE INTO unit({_COLUMNS}) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_SUMS: Final = (
    "SELECT COUNT(*), COALESCE(SUM(rows), 0), COALESCE(SUM(paid), 0), "
    "COALESCE(SUM(wrong > 0), 0), COALESCE(SUM(is_counted = 0), 0) FROM unit "
)
_OLD: Final = "WHERE seq <= (SELECT MAX(seq) FROM unit) - ?"
_PRUNE: Final = "DELETE FROM unit WHERE seq <= (SELECT MAX(seq) FROM unit) - ?"
_PAGE: Final = (
    f"SELECT seq, {_COLUMNS} FROM unit WHERE seq < ? AND time_ms >= ? ORDER BY seq DESC LIMIT ?"  # noqa: S608 - as above
)


@dataclass(frozen=True, slots=True)
class Ended:
    """A unit this node did and nothing more happens to.

    Attributes:
        job: its escrow, 32 bytes.
        unit: of the job.
        model: CID as bytes.
        requester: account; empty where the escrow was gone already.
        kind: of work, as people read it.
        rows: in our receipt.
        price_per_row: micro-FTNS, as locked.
        paid: micro-FTNS that came to our account, after the parts of others.
        wrong: batches of ours that differ from what is right.
        is_counted: our receipt stood in the settlement; if not, nothing was paid for it.
        height: of the settlement, or of this node's ledger when it was seen to be over.
        time_ms: of that block.
    """

    job: bytes
    unit: int
    model: bytes
    requester: bytes
    kind: str
    rows: int
    price_per_row: int
    paid: int
    wrong: int
    is_counted: bool
    height: int
    time_ms: int


@dataclass(frozen=True, slots=True)
class Sums:
    """What units came to, together."""

    units: int
    rows: int
    paid: int  # micro-FTNS
    wrong: int  # units with a wrong batch
    unpaid: int  # units whose receipt stood in no settlement

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            self.units + other.units,
            self.rows + other.rows,
            self.paid + other.paid,
            self.wrong + other.wrong,
            self.unpaid + other.unpaid,
        )


class EarningsFile:
    """The account of one worker."""

    def __init__(self, database: Database, *, rows_max: int = ROWS_MAX) -> None:
        """Wrap an open file; `open` is the way in."""
        self._database, self._rows_max = database, rows_max

    @classmethod
    async def open(cls, path: Path, *, rows_max: int = ROWS_MAX) -> "EarningsFile":
        """Open or make the file.

        Raises:
            Conflict, StoreUnavailable, Corrupt: as `Database.open`.
        """
        return cls(await open_earnings(path), rows_max=rows_max)

    async def put(self, ended: Ended) -> None:
        """Note a unit once: what is noted of it already stays.

        Raises:
            Full, StoreUnavailable: the disk refused.
        """
        values = (
            *(ended.job, ended.unit, ended.model, ended.requester, ended.kind, ended.rows),
            *(ended.price_per_row, ended.paid, ended.wrong, ended.is_counted),
            *(ended.height, ended.time_ms),
        )

        def write(db: sqlite3.Connection) -> None:
            db.execute(_PUT, values)
            old = db.execute(_SUMS + _OLD, (self._rows_max,)).fetchone()
            if old[0]:
                db.execute(
                    "UPDATE pruned SET units=units+?, rows=rows+?, paid=paid+?, wrong=wrong+?, "
                    "unpaid=unpaid+?",
                    old,
                )
                db.execute(_PRUNE, (self._rows_max,))

        await self._database.write(write)

    async def page(
        self, limit: int, *, before: int | None = None, since_ms: int = 0
    ) -> Sequence[tuple[int, Ended]]:
        """Units by their number, newest first; `before` goes on after a page.

        Args:
            limit: at most 1,000.
            before: number of the last unit of the page before.
            since_ms: none older than this, by block time.
        """
        values = (2**62 if before is None else before, since_ms, min(limit, PAGE_MAX))

        def read(db: sqlite3.Connection) -> list[tuple[int, Ended]]:
            return [(seq, Ended(*fields)) for seq, *fields in db.execute(_PAGE, values)]

        return await self._database.read(read)

    async def sums(self, *, since_ms: int = 0) -> Sums:
        """What units came to since then, by block time; of all times with 0."""

        def read(db: sqlite3.Connection) -> Sums:
            kept = Sums(*db.execute(_SUMS + "WHERE time_ms >= ?", (since_ms,)).fetchone())
            if since_ms:
                return kept
            return kept + Sums(*db.execute("SELECT * FROM pruned").fetchone())

        return await self._database.read(read)

    async def close(self) -> None:
        """Close the file."""
        await self._database.close()


async def open_earnings(path: Path) -> Database:
    """The file itself; whoever opens it closes it.

    Raises:
        Conflict, StoreUnavailable, Corrupt: as `Database.open`.
    """
    return await Database.open(path, migrations=_MIGRATIONS, readers=1)
