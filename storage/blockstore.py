"""The index of the store: which files and blocks are here, in which state, and who wants them kept.

Knows: tables, interior nodes and manifests (kept inside, 51 KB for each GiB). Must not know:
files and folders (`model_store` does); leaves are byte ranges of those and have no row.

Invariant: a row is written only after the data it speaks of is synced.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from prsm.storage.cid import Cid, Codec, decode_cid, hash_block
from prsm.storage.database import Database, Migration
from prsm.storage.errors import Conflict, Corrupt, NotFound

_MIGRATIONS: Final[tuple[Migration, ...]] = (
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
    ),
)


class State(Enum):
    """Where a file is between its first byte and its use."""

    PARTIAL = "partial"  # leaves arrive; the bitmap says which are synced
    SEALING = "sealing"  # all bytes are synced, the file is about to get its name
    SEALED = "sealed"  # whole, named, read-only
    BAD = "bad"  # lost or changed; fetched again before it is served


@dataclass(frozen=True, slots=True)
class RootRow:
    """A file of the store.

    `stamp` is the sealed file's inode, size, mtime and ctime: another one means somebody touched
    it. `bitmap` has bit i % 8 of byte i // 8 for each synced leaf of a partial file.
    """

    root: Cid
    size: int
    state: State
    stamp: str = ""
    bitmap: bytes = b""


class BlockIndex:
    """The index database of one store."""

    def __init__(self, database: Database) -> None:
        """Wrap an open database; `open` is the way in."""
        self._database = database

    @classmethod
    async def open(cls, path: Path) -> "BlockIndex":
        """Open or make the index.

        Raises:
            Conflict: another process uses this store.
            StoreUnavailable: written by a newer version, or the disk refused.
            Corrupt: damaged.
        """
        return cls(await Database.open(path, migrations=_MIGRATIONS))

    async def close(self) -> None:
        """Close the database."""
        await self._database.close()

    async def used_bytes(self) -> int:
        """Return what files (whole size, partial ones too) and blocks take."""
        query = """SELECT (SELECT coalesce(sum(size), 0) FROM root WHERE state != 'bad')
                 + (SELECT coalesce(sum(size), 0) FROM block)"""
        return await self._database.read(lambda db: int(db.execute(query).fetchone()[0]))

    async def get_root(self, root: Cid) -> RootRow | None:
        """Return the row of a file."""

        def run(db: sqlite3.Connection) -> RootRow | None:
            row = db.execute(f"{_SELECT} WHERE cid=?", (root.raw,)).fetchone()
            return None if row is None else _row(row)

        return await self._database.read(run)

    async def roots(self) -> Sequence[RootRow]:
        """Return all files, oldest first."""
        return await self._database.read(
            lambda db: [_row(row) for row in db.execute(f"{_SELECT} ORDER BY rowid")]
        )

    async def put_root(self, row: RootRow, nodes: Sequence[bytes] = ()) -> None:
        """Write the row of a file, and interior nodes that belong to it.

        Raises:
            Full, StoreUnavailable: the disk refused; nothing happened.
        """

        def run(db: sqlite3.Connection) -> None:
            db.execute(
                """INSERT INTO root VALUES(?1,?2,?3,?4,?5) ON CONFLICT(cid)
                   DO UPDATE SET size=?2, state=?3, stamp=?4, bitmap=?5""",
                (row.root.raw, row.size, row.state.value, row.stamp, row.bitmap),
            )
            _put_blocks(db, row.root, nodes)

        await self._database.write(run)

    async def note_progress(self, root: Cid, bitmap: bytes) -> None:
        """Note which leaves of a partial file are synced; does nothing to a file that is whole.

        Raises:
            Full, StoreUnavailable: the disk refused; nothing happened.
        """
        query = "UPDATE root SET bitmap=? WHERE cid=? AND state='partial'"
        await self._database.write(lambda db: db.execute(query, (bitmap, root.raw)))

    async def remove_root(self, root: Cid, *, even_pinned: bool = False) -> None:
        """Forget a file and the nodes that no other file shares.

        Raises:
            NotFound: there is none.
            Conflict: it is pinned.
        """

        def run(db: sqlite3.Connection) -> None:
            pins = [row[0] for row in db.execute("SELECT name FROM pin WHERE root=?", (root.raw,))]
            if pins and not even_pinned:
                raise Conflict(
                    f"{root} is pinned as {', '.join(pins)[:200]}", hint="unpin it first"
                )
            if not db.execute("DELETE FROM root WHERE cid=?", (root.raw,)).rowcount:
                raise NotFound(f"{root} is not in this store")
            _drop_blocks(db, root)

        await self._database.write(run)

    async def put_blocks(self, root: Cid, blocks: Sequence[bytes]) -> None:
        """Keep interior nodes for as long as `root` is known.

        Raises:
            Full, StoreUnavailable: the disk refused; nothing happened.
        """
        await self._database.write(lambda db: _put_blocks(db, root, blocks))

    async def put_manifest(self, raw: bytes) -> Cid:
        """Keep a manifest; its CID is the raw hash of its bytes.

        Raises:
            Full, StoreUnavailable: the disk refused; nothing happened.
        """
        cid = hash_block(raw)

        def run(db: sqlite3.Connection) -> None:
            db.execute("INSERT OR IGNORE INTO manifest VALUES(?)", (cid.raw,))
            _put_blocks(db, cid, (raw,))

        await self._database.write(run)
        return cid

    async def remove_manifest(self, cid: Cid) -> None:
        """Forget a manifest.

        Raises:
            NotFound: there is none.
        """

        def run(db: sqlite3.Connection) -> None:
            if not db.execute("DELETE FROM manifest WHERE cid=?", (cid.raw,)).rowcount:
                raise NotFound(f"no manifest {cid} in this store", hint="prsm model ls")
            _drop_blocks(db, cid)

        await self._database.write(run)

    async def manifests(self) -> Sequence[Cid]:
        """Return the manifests here, in order of their CIDs."""
        query = "SELECT cid FROM manifest ORDER BY cid"
        return await self._database.read(
            lambda db: [decode_cid(row[0]) for row in db.execute(query)]
        )

    async def get_block(self, digest: bytes) -> bytes:
        """Return a block, checked against its digest.

        Raises:
            NotFound: it is not here.
            Corrupt: the index holds other bytes under that digest.
        """

        def run(db: sqlite3.Connection) -> bytes | None:
            row = db.execute("SELECT bytes FROM block WHERE digest=?", (digest,)).fetchone()
            return None if row is None else bytes(row[0])

        raw = await self._database.read(run)
        if raw is None:
            raise NotFound(f"no block {digest.hex()[:16]} in this store")
        if hash_block(raw).digest != digest:
            raise Corrupt(f"block {digest.hex()[:16]} has changed on disk")
        return raw

    async def pin(self, root: Cid, name: str) -> None:
        """Keep a root under a name; twice is once."""
        await self._database.write(
            lambda db: db.execute("INSERT OR IGNORE INTO pin VALUES(?,?)", (root.raw, name))
        )

    async def unpin(self, root: Cid, name: str) -> None:
        """Give a name up.

        Raises:
            NotFound: no such pin.
        """

        def run(db: sqlite3.Connection) -> None:
            query = "DELETE FROM pin WHERE root=? AND name=?"
            if not db.execute(query, (root.raw, name)).rowcount:
                raise NotFound(f"{root} is not pinned as {name!r}")

        await self._database.write(run)

    async def pins(self) -> dict[Cid, tuple[str, ...]]:
        """Return the names each pinned root has."""

        def run(db: sqlite3.Connection) -> dict[Cid, tuple[str, ...]]:
            found: dict[Cid, tuple[str, ...]] = {}
            for raw, name in db.execute("SELECT root, name FROM pin ORDER BY root, name"):
                cid = decode_cid(raw)
                found[cid] = (*found.get(cid, ()), name)
            return found

        return await self._database.read(run)


_SELECT: Final = "SELECT cid, size, state, stamp, bitmap FROM root"


def _row(row: tuple[bytes, int, str, str, bytes]) -> RootRow:
    raw, size, state, stamp, bitmap = row
    return RootRow(decode_cid(raw), size, State(state), stamp, bitmap)


def _put_blocks(db: sqlite3.Connection, root: Cid, blocks: Sequence[bytes]) -> None:
    for raw in blocks:
        digest = hash_block(raw, Codec.DAG_PB).digest
        db.execute("INSERT OR IGNORE INTO block VALUES(?,?,?)", (digest, len(raw), raw))
        db.execute("INSERT OR IGNORE INTO root_block VALUES(?,?)", (root.raw, digest))


def _drop_blocks(db: sqlite3.Connection, root: Cid) -> None:
    digests = db.execute("DELETE FROM root_block WHERE root=? RETURNING digest", (root.raw,))
    for (digest,) in digests.fetchall():
        db.execute(
            """DELETE FROM block WHERE digest=?1
               AND NOT EXISTS (SELECT 1 FROM root_block WHERE digest=?1)""",
            (digest,),
        )
