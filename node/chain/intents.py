"""Intents: what somebody of this node wants on the ledger, and their one table.

Knows: fields, rows. Must not know: who sends them, or when.
"""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from prsm.storage.database import Migration

MIGRATIONS: Final[tuple[Migration, ...]] = (
    (
        """CREATE TABLE intent(
            key TEXT PRIMARY KEY, kind INTEGER NOT NULL, payload BLOB NOT NULL,
            made_ms INTEGER NOT NULL, until_ms INTEGER NOT NULL)""",
    ),
    (
        "ALTER TABLE intent ADD COLUMN signer TEXT NOT NULL DEFAULT 'default'",
        "ALTER TABLE intent ADD COLUMN subject TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE intent ADD COLUMN raw BLOB NOT NULL DEFAULT x''",
        "ALTER TABLE intent ADD COLUMN tx_id BLOB NOT NULL DEFAULT x''",
        "ALTER TABLE intent ADD COLUMN since INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE intent ADD COLUMN how TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE intent ADD COLUMN ended_ms INTEGER NOT NULL DEFAULT 0",
    ),
)


@dataclass(frozen=True, slots=True)
class Intent:
    """Something to put on the ledger.

    Attributes:
        key: what it is about; a later intent of the same key takes its place.
        kind: of transaction.
        payload: canonical bytes; empty once it is over.
        made_ms: wall time.
        until_ms: wall time after which nobody wants it any more; 0: it stays.
        signer: name of the key that signs.
        subject: intents of one subject are settled one after the other; empty: of none.
        raw: the transaction as it was signed; empty before that and once it is over.
        tx_id: of the transaction that was signed last; empty before that.
        since: height of the ledger it was signed at.
        how: what it ended with; empty while it waits.
        ended_ms: wall time; 0 while it waits.
        why: what the last try ended with; empty before it. In no row.
    """

    key: str
    kind: int
    payload: bytes
    made_ms: int
    until_ms: int = 0
    signer: str = "default"
    subject: str = ""
    raw: bytes = b""
    tx_id: bytes = b""
    since: int = 0
    how: str = ""
    ended_ms: int = 0
    why: str = ""

    @property
    def is_over(self) -> bool:
        """Is it settled, refused, given up, or too late?"""
        return bool(self.how)


def read_intents(db: sqlite3.Connection) -> list[Intent]:
    """All of them, in the order they were written down."""
    rows = db.execute(
        """SELECT key, kind, payload, made_ms, until_ms, signer, subject, raw, tx_id, since, how,
           ended_ms FROM intent ORDER BY rowid"""
    )
    return [Intent(*row) for row in rows]


def insert_intent(db: sqlite3.Connection, intent: Intent) -> None:
    """Write one down behind all others, in the place of another of its key."""
    db.execute(
        """INSERT OR REPLACE INTO intent(key, kind, payload, made_ms, until_ms, signer, subject,
           raw, tx_id, since, how, ended_ms) VALUES(?,?,?,?,?,?,?,?,?,?,?,?)""",
        (
            *(intent.key, intent.kind, intent.payload, intent.made_ms, intent.until_ms),
            *(intent.signer, intent.subject, intent.raw, intent.tx_id, intent.since),
            *(intent.how, intent.ended_ms),
        ),
    )


def update_intent(db: sqlite3.Connection, intent: Intent) -> None:
    """Note what became of one that is there."""
    db.execute(
        """UPDATE intent SET payload=?2, raw=?3, tx_id=?4, since=?5, how=?6, ended_ms=?7
           WHERE key=?1""",
        (
            *(intent.key, intent.payload, intent.raw, intent.tx_id, intent.since),
            *(intent.how, intent.ended_ms),
        ),
    )


def delete_intents(db: sqlite3.Connection, keys: Iterable[str]) -> None:
    """Forget some."""
    db.executemany("DELETE FROM intent WHERE key=?", [(key,) for key in keys])
