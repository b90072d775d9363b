"""The tables of a store's index, and the statements that several of its calls share.

Knows: SQL. Must not know: transactions, files (`blockstore` has the calls).
"""

import sqlite3
from collections.abc import Sequence
from typing import Final

from prsm.storage.cid import Cid, Codec, decode_cid, hash_block
from prsm.storage.database import Migration
from prsm.storage.store.index import PinRow, RootRow, State, Use

MIGRATIONS: Final[tuple[Migration, ...]] = (
    (
        """CREATE TABLE root(
            cid BLOB PRIMARY KEY, size INTEGER NOT NULL, state TEXT NOT NULL,
            stamp TEXT NOT NULL DEFAULT '', bitmap BLOB NOT NULL DEFAULT x'')""",
        "CREATE TABLE block(digest BLOB PRIMARY KEY, size INTEGER NOT NULL, bytes BLOB NOT NULL)",
        """CREATE TABLE root_block(
            root BLOB NOT NULL, digest BLOB NOT NULL REFERENCES block(digest),
            PRIMARY KEY(root, digest)) WITHOUT ROWID""",
        "CREATE INDEX root_block_digest ON root_block(digest)",
        """CREATE TABLE pin(
            root BLOB NOT NULL, name TEXT NOT NULL, PRIMARY KEY(root, name)) WITHOUT ROWID""",
        "CREATE TABLE manifest(cid BLOB PRIMARY KEY) WITHOUT ROWID",
        # Is there from the transaction that makes the index until the files that were there
        # before it are rows; it holds nothing. An index without tables is a new one, too.
        "CREATE TABLE adopting(mark INTEGER)",
    ),
    (
        "ALTER TABLE root ADD COLUMN heat REAL NOT NULL DEFAULT 0",
        "ALTER TABLE root ADD COLUMN used_ms INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE root ADD COLUMN scrub_next INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE root ADD COLUMN scrubbed_ms INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE pin ADD COLUMN owner TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE pin ADD COLUMN why TEXT NOT NULL DEFAULT ''",
        """CREATE TABLE block_use(
            digest BLOB PRIMARY KEY REFERENCES block(digest) ON DELETE CASCADE,
            heat REAL NOT NULL, used_ms INTEGER NOT NULL) WITHOUT ROWID""",
        # The sum of the sizes is asked before every write; without it all pages would be read.
        "CREATE INDEX block_size ON block(size)",
        """CREATE TABLE leaf(
            digest BLOB NOT NULL, root BLOB NOT NULL, place INTEGER NOT NULL,
            PRIMARY KEY(digest, root)) WITHOUT ROWID""",
        "CREATE INDEX leaf_root ON leaf(root)",
    ),
)
PIN_NAMES_SHOWN: Final = 200  # letters
_ROOT: Final = (
    "SELECT cid, size, state, stamp, bitmap, heat, used_ms, scrub_next, scrubbed_ms FROM root"
)
_SQL_NUMBERS: Final = 500  # parameters of one statement; SQLite takes 32,766
_RootTuple = tuple[bytes, int, str, str, bytes, float, int, int, int]


def read_roots(db: sqlite3.Connection) -> list[RootRow]:
    """Read all files, oldest first."""
    return [_root_row(row) for row in db.execute(f"{_ROOT} ORDER BY rowid")]


def read_root(db: sqlite3.Connection, root: Cid) -> RootRow | None:
    """Read one file."""
    row = db.execute(f"{_ROOT} WHERE cid=?", (root.raw,)).fetchone()
    return None if row is None else _root_row(row)


def write_root(db: sqlite3.Connection, row: RootRow) -> None:
    """Insert a file, or update what `put_root` may."""
    db.execute(
        """INSERT INTO root VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9) ON CONFLICT(cid)
           DO UPDATE SET size=?2, state=?3, stamp=?4, bitmap=?5""",
        (
            *(row.root.raw, row.size, row.state.value, row.stamp, row.bitmap),
            *(row.use.heat, row.use.used_ms, row.scrub_next, row.scrubbed_ms),
        ),
    )


def write_leaves(db: sqlite3.Connection, root: Cid, digests: Sequence[bytes]) -> None:
    """Note where leaves are; of equal ones the first place."""
    # In the order of the key: a tree is filled three times faster than at random.
    places = sorted((digest, root.raw, place) for place, digest in enumerate(digests))
    db.executemany("INSERT OR IGNORE INTO leaf VALUES(?,?,?)", places)


def write_blocks(db: sqlite3.Connection, owner: bytes, blocks: Sequence[bytes], use: Use) -> None:
    """Insert blocks and their owner."""
    for raw in blocks:
        digest = hash_block(raw, Codec.DAG_PB).digest
        # What stands there under this digest and differs is damage: it is put right.
        db.execute(
            """INSERT INTO block VALUES(?1,?2,?3) ON CONFLICT(digest)
               DO UPDATE SET size=?2, bytes=?3 WHERE bytes IS NOT ?3""",
            (digest, len(raw), raw),
        )
        db.execute("INSERT OR IGNORE INTO root_block VALUES(?,?)", (owner, digest))
        if use.used_ms:
            db.execute(
                "INSERT OR REPLACE INTO block_use VALUES(?,?,?)", (digest, use.heat, use.used_ms)
            )


def write_pin(db: sqlite3.Connection, pin: PinRow) -> None:
    """Write a pin, or its new owner and reason."""
    query = "INSERT OR REPLACE INTO pin(root, name, owner, why) VALUES(?,?,?,?)"
    db.execute(query, (pin.root.raw, pin.name, pin.owner, pin.why))


def disown_all(db: sqlite3.Connection, owner: bytes) -> None:
    """Give up all blocks of an owner."""
    query = "SELECT digest FROM root_block WHERE root=?"
    disown(db, owner, [row[0] for row in db.execute(query, (owner,))])


def disown(db: sqlite3.Connection, owner: bytes, digests: Sequence[bytes]) -> int:
    """Give up blocks of an owner, and forget those nobody else owns."""
    count = 0
    for digest in digests:
        query = "DELETE FROM root_block WHERE root=? AND digest=?"
        count += db.execute(query, (owner, digest)).rowcount
        db.execute(
            """DELETE FROM block WHERE digest=?1
               AND NOT EXISTS (SELECT 1 FROM root_block WHERE digest=?1)""",
            (digest,),
        )
    return count


def select_in(
    db: sqlite3.Connection, query: str, keys: Sequence[bytes]
) -> list[tuple[bytes, bytes, int]]:
    """Run a query with `IN (?)` for any number of keys.

    Args:
        db: the connection.
        query: gives key, bytes, number; has `(?)` once.
        keys: what stands in place of the `?`.
    """
    found: list[tuple[bytes, bytes, int]] = []
    for first in range(0, len(keys), _SQL_NUMBERS):
        some = keys[first : first + _SQL_NUMBERS]
        marks = ",".join("?" * len(some))
        found += db.execute(query.replace("(?)", f"({marks})"), some).fetchall()
    return found


def pin_row(row: tuple[bytes, str, str, str]) -> PinRow:
    """Read a row of `pin`."""
    return PinRow(decode_cid(row[0]), *row[1:])


def _root_row(row: _RootTuple) -> RootRow:
    raw, size, state, stamp, bitmap, heat, used_ms, scrub_next, scrubbed_ms = row
    use = Use(heat, used_ms)
    return RootRow(decode_cid(raw), size, State(state), stamp, bitmap, use, scrub_next, scrubbed_ms)
