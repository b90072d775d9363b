"""What clients' tokens spend: reserved before, settled after, in one SQLite file.

Knows: amounts, which token, whether an amount may still change. Must not know: what is bought.

Invariants: a reservation is made in the transaction that found room for it, so that two at once
never pass a limit together; what is final is never changed again but folded into one sum a token.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from prsm.storage.database import Database

DAY_MS: Final = 24 * 3600 * 1000
AMOUNT_MAX: Final = 2**53  # more than there is: a larger wish is refused by the ledger
OPEN_ROWS_MAX: Final = 1_000  # looked at in one go
TABLES: Final = (
    (
        "CREATE TABLE outlay(id INTEGER PRIMARY KEY, token TEXT NOT NULL, method TEXT NOT NULL, "
        "kind TEXT NOT NULL, subject TEXT NOT NULL, amount INTEGER NOT NULL, "
        "is_final INTEGER NOT NULL, made_ms INTEGER NOT NULL)"
    ),
    "CREATE INDEX outlay_of ON outlay(token, made_ms)",
    "CREATE INDEX outlay_open ON outlay(id) WHERE is_final=0",
    "CREATE TABLE spent(token TEXT PRIMARY KEY, amount INTEGER NOT NULL) WITHOUT ROWID",
)
_INSERT: Final = (
    "INSERT INTO outlay(token, method, kind, subject, amount, is_final, made_ms) "
    "VALUES(?, ?, '', '', ?, 0, ?)"
)
_OPEN: Final = (
    "SELECT id, token, method, kind, subject, amount, made_ms FROM outlay "
    "WHERE is_final=0 ORDER BY id LIMIT ?"
)
_FOLD: Final = (
    "INSERT INTO spent SELECT token, SUM(amount) FROM outlay WHERE is_final=1 AND made_ms<? "
    "GROUP BY token ON CONFLICT(token) DO UPDATE SET amount=spent.amount+excluded.amount"
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a token may spend in micro-FTNS: ever, and in 24 hours; None: as much as there is."""

    spend_limit: int | None = None
    daily_cap: int | None = None

    @property
    def is_any(self) -> bool:
        """Is there a limit at all?"""
        return self.spend_limit is not None or self.daily_cap is not None


@dataclass(frozen=True, slots=True)
class Sums:
    """Micro-FTNS of a token: `spent` and `today` hold what is reserved too."""

    spent: int
    today: int
    held: int

    def left(self, limits: Limits) -> int | None:
        """What may still be reserved; None: no limit."""
        rooms = []
        if limits.spend_limit is not None:
            rooms.append(limits.spend_limit - self.spent)
        if limits.daily_cap is not None:
            rooms.append(limits.daily_cap - self.today)
        return max(0, min(rooms)) if rooms else None


@dataclass(frozen=True, slots=True)
class Reserved:
    """A reservation: its number, and how much."""

    id: int
    amount: int


@dataclass(frozen=True, slots=True)
class OpenOutlay:
    """An amount that may still change; `subject` says what of `kind` it was for."""

    id: int
    token: str
    method: str
    kind: str
    subject: str
    amount: int
    made_ms: int


class Outlays:
    """The tables of outlays in a database somebody else opened."""

    def __init__(self, database: Database) -> None:
        """Use the tables `TABLES` of an open file."""
        self._database = database

    async def reserve(
        self, token: str, method: str, wanted: int | None, *, limits: Limits, now_ms: int
    ) -> Reserved | Sums:
        """Take an amount, or all that is left if none is named; the sums if there is no room.

        Args:
            token: whose.
            method: for the list.
            wanted: micro-FTNS, 1 or more; None: what is left, 0 where nothing limits it.
            limits: of the token today.
            now_ms: wall time.

        Raises:
            Full, StoreUnavailable: the disk refused.
        """

        def write(db: sqlite3.Connection) -> Reserved | Sums:
            sums = _sums(db, token, now_ms)
            left = sums.left(limits)
            amount = (left or 0) if wanted is None else wanted
            if left is not None and not 0 < amount <= left:
                return sums
            kept = min(amount, AMOUNT_MAX)
            cursor = db.execute(_INSERT, (token, method, kept, now_ms))
            assert cursor.lastrowid is not None
            return Reserved(cursor.lastrowid, kept)

        return await self._database.write(write)

    async def bind(self, outlay: int, kind: str, subject: str) -> None:
        """Say what a reservation was for."""
        values = (kind, subject, outlay)
        await self._database.write(
            lambda db: db.execute("UPDATE outlay SET kind=?, subject=? WHERE id=?", values)
        )

    async def settle(self, outlay: int, amount: int, *, is_final: bool = True) -> None:
        """Put what it came to in place of what was reserved; nothing happens to a final one."""
        values = (amount, is_final, outlay)
        await self._database.write(
            lambda db: db.execute(
                "UPDATE outlay SET amount=?, is_final=? WHERE id=? AND is_final=0", values
            )
        )

    async def drop(self, outlay: int) -> None:
        """Take a reservation back: nothing was done."""
        await self._database.write(
            lambda db: db.execute("DELETE FROM outlay WHERE id=? AND is_final=0", (outlay,))
        )

    async def unfinished(self) -> Sequence[OpenOutlay]:
        """Amounts that may still change, the oldest first."""

        def read(db: sqlite3.Connection) -> list[OpenOutlay]:
            return [OpenOutlay(*row) for row in db.execute(_OPEN, (OPEN_ROWS_MAX,))]

        return await self._database.read(read)

    async def close_unbound(self) -> None:
        """Make final what a process reserved and never bound: nobody knows what became of it."""
        await self._database.write(
            lambda db: db.execute("UPDATE outlay SET is_final=1 WHERE is_final=0 AND kind=''")
        )

    async def sums(self, token: str, *, now_ms: int) -> Sums:
        """What a token has spent and reserved."""
        return await self._database.read(lambda db: _sums(db, token, now_ms))

    async def fold(self, *, now_ms: int) -> None:
        """Put final amounts of more than two days ago into one sum a token."""

        def write(db: sqlite3.Connection) -> None:
            old = (now_ms - 2 * DAY_MS,)
            db.execute(_FOLD, old)
            db.execute("DELETE FROM outlay WHERE is_final=1 AND made_ms<?", old)

        await self._database.write(write)


def _sums(db: sqlite3.Connection, token: str, now_ms: int) -> Sums:
    before = db.execute("SELECT amount FROM spent WHERE token=?", (token,)).fetchone()
    total, today, held = db.execute(
        "SELECT COALESCE(SUM(amount), 0), "
        "COALESCE(SUM(CASE WHEN made_ms>? THEN amount END), 0), "
        "COALESCE(SUM(CASE WHEN is_final=0 THEN amount END), 0) FROM outlay WHERE token=?",
        (now_ms - DAY_MS, token),
    ).fetchone()
    return Sums((before[0] if before else 0) + total, today, held)
