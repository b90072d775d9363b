"""The index of a store in SQLite: files, leaves, pins, and the blocks that are no file's bytes.

Knows: what each call of the `Index` port writes in one transaction. Must not know: files and
folders (`model_store` does). Interior nodes, manifests and stray blocks are rows, since they are
few beside the files (51 KB for each GiB; docs/adr/0012-leases-heat-and-rows.md).
"""

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

from prsm.storage.cid import Cid, decode_cid, hash_block
from prsm.storage.database import Database
from prsm.storage.errors import Conflict, Corrupt, NotFound
from prsm.storage.store import tables
from prsm.storage.store.index import BlockRow, PinRow, RootRow, State, Use, Used

__all__ = ["BlockIndex", "RootRow", "State"]

# A file of rows is written anew when half of it is free; small ones are not worth it.
_VACUUM_PAGES: Final = 16 * 1024
_NO_USE: Final = Use()


class BlockIndex:
    """The index database of one store; an `Index`."""

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
        return cls(await Database.open(path, migrations=tables.MIGRATIONS))

    async def close(self) -> None:
        """Close the database."""
        await self._database.close()

    async def tidy(self) -> None:
        """Move the log into the file; give pages back when more than half of them are free."""
        await self._database.checkpoint()

        def pages(db: sqlite3.Connection) -> tuple[int, int]:
            free, all_ = (
                db.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("freelist_count", "page_count")
            )
            return int(free), int(all_)

        free, all_ = await self._database.read(pages)
        if all_ > _VACUUM_PAGES and 2 * free > all_:
            await self._database.vacuum()

    async def used(self) -> Used:
        """Return what files and blocks take."""

        def run(db: sqlite3.Connection) -> Used:
            kinds = dict.fromkeys(("sealed", "sealing", "partial", "bad"), 0)
            count = 0
            query = """SELECT state, count(*),
                       sum(CASE WHEN state='bad' AND bitmap=x'' THEN 0 ELSE size END)
                       FROM root GROUP BY state"""
            for state, files, size in db.execute(query):
                kinds[state] = size
                count += files
            blocks = db.execute("SELECT coalesce(sum(size), 0) FROM block").fetchone()[0]
            files = kinds["sealed"] + kinds["sealing"]
            return Used(files, kinds["partial"], kinds["bad"], int(blocks), count)

        return await self._database.read(run)

    async def pinned_bytes(self) -> int:
        """Return what files that have a name take."""
        query = "SELECT coalesce(sum(size), 0) FROM root WHERE cid IN (SELECT root FROM pin)"
        return await self._database.read(lambda db: int(db.execute(query).fetchone()[0]))

    async def bytes_of(self, roots: Collection[Cid]) -> int:
        """Return what those of these files that are known take."""
        query = "SELECT coalesce(sum(size), 0) FROM root WHERE cid=?"

        def run(db: sqlite3.Connection) -> int:
            return sum(int(db.execute(query, (root.raw,)).fetchone()[0]) for root in roots)

        return await self._database.read(run)

    async def get_root(self, root: Cid) -> RootRow | None:
        """Return the row of a file."""
        return await self._database.read(lambda db: tables.read_root(db, root))

    async def roots(self) -> Sequence[RootRow]:
        """Return all files, oldest first."""
        return await self._database.read(tables.read_roots)

    async def is_adopted(self) -> bool:
        """Say whether `note_adopted` was called since the tables were made."""
        query = "SELECT 1 FROM sqlite_master WHERE type='table' AND name='adopting'"
        return await self._database.read(lambda db: db.execute(query).fetchone() is None)

    async def note_adopted(self) -> None:
        """Note that all files that were there before this index have their rows.

        Raises:
            Full, StoreUnavailable: the disk refused; nothing happened.
        """
        await self._database.write(lambda db: db.execute("DROP TABLE IF EXISTS adopting"))

    async def put_root(
        self,
        row: RootRow,
        nodes: Sequence[bytes] = (),
        leaves: Sequence[bytes] = (),
        *,
        pin: PinRow | None = None,
    ) -> None:
        """Write the row of a file, its interior nodes, where its leaves are, and a pin of it.

        Raises:
            Full, StoreUnavailable: the disk refused; nothing happened.
        """

        def run(db: sqlite3.Connection) -> None:
            tables.write_root(db, row)
            tables.write_blocks(db, row.root.raw, nodes, _NO_USE)
            tables.write_leaves(db, row.root, leaves)
            if pin is not None:
                tables.write_pin(db, pin)

        await self._database.write(run)

    async def note_progress(self, root: Cid, bitmap: bytes, now_ms: int) -> None:
        """Note which leaves of a partial file are synced; does nothing to a file that is whole.

        Raises:
            Full, StoreUnavailable: the disk refused; nothing happened.
        """
        query = "UPDATE root SET bitmap=?, used_ms=? WHERE cid=? AND state='partial'"
        await self._database.write(lambda db: db.execute(query, (bitmap, now_ms, root.raw)))

    async def note_uses(self, files: Mapping[Cid, Use], blocks: Mapping[bytes, Use]) -> None:
        """Note how much files and blocks were used.

        Raises:
            Full, StoreUnavailable: the disk refused; nothing happened.
        """
        rows = [(use.heat, use.used_ms, root.raw) for root, use in files.items()]
        rows += [(use.heat, use.used_ms, digest) for digest, use in blocks.items()]

        def run(db: sqlite3.Connection) -> None:
            query = "UPDATE root SET heat=?, used_ms=? WHERE cid=?"
            db.executemany(query, rows[: len(files)])
            query = "UPDATE block_use SET heat=?, used_ms=? WHERE digest=?"
            db.executemany(query, rows[len(files) :])

        await self._database.write(run)

    async def note_scrub(self, root: Cid, next_leaf: int, scrubbed_ms: int) -> None:
        """Note how far the scrub of a file has come.

        Raises:
            Full, StoreUnavailable: the disk refused; nothing happened.
        """
        query = "UPDATE root SET scrub_next=?, scrubbed_ms=? WHERE cid=?"
        await self._database.write(lambda db: db.execute(query, (next_leaf, scrubbed_ms, root.raw)))

    async def remove_root(self, root: Cid, *, even_pinned: bool = False) -> None:
        """Forget a file and the nodes that no other file shares.

        Raises:
            NotFound: there is none.
            Conflict: it is pinned.
        """

        def run(db: sqlite3.Connection) -> None:
            if not even_pinned:
                _refuse_pinned(db, root)
            if not _forget(db, root):
                raise NotFound(f"{root} is not in this store")

        await self._database.write(run)

    async def remove_roots(self, roots: Collection[Cid], names: Collection[str]) -> None:
        """Give names up and forget the files they kept, all or none; those not here are no error.

        Raises:
            Conflict: one is pinned under another name.
        """

        def run(db: sqlite3.Connection) -> None:
            given_up = [(root.raw, name) for root in roots for name in names]
            db.executemany("DELETE FROM pin WHERE root=? AND name=?", given_up)
            for root in roots:
                _refuse_pinned(db, root)  # what was given up above comes back
                _forget(db, root)

        await self._database.write(run)

    async def unlisted(self) -> Sequence[Cid]:
        """Return sealed files of which no leaf is listed."""
        query = """SELECT cid FROM root WHERE state='sealed'
                   AND NOT EXISTS (SELECT 1 FROM leaf WHERE root=cid) ORDER BY rowid"""
        return await self._database.read(
            lambda db: [decode_cid(row[0]) for row in db.execute(query)]
        )

    async def find_leaves(self, digests: Sequence[bytes]) -> Mapping[bytes, tuple[Cid, int]]:
        """Return a sealed file, and a place in it, of each leaf that is known."""
        query = """SELECT leaf.digest, leaf.root, leaf.place FROM leaf
                   JOIN root ON root.cid = leaf.root AND root.state = 'sealed'
                   WHERE leaf.digest IN (?)"""
        rows = await self._database.read(lambda db: tables.select_in(db, query, digests))
        return {digest: (decode_cid(root), place) for digest, root, place in rows}

    async def put_blocks(self, owner: bytes, blocks: Sequence[bytes], use: Use = _NO_USE) -> None:
        """Keep blocks for an owner: a file (its CID) or somebody who put them by themselves.

        Raises:
            Full, StoreUnavailable: the disk refused; nothing happened.
        """
        await self._database.write(lambda db: tables.write_blocks(db, owner, blocks, use))

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

    async def held_blocks(self, digests: Sequence[bytes]) -> Mapping[bytes, int]:
        """Return the sizes of those blocks that are here."""
        query = "SELECT digest, digest, size FROM block WHERE digest IN (?)"
        rows = await self._database.read(lambda db: tables.select_in(db, query, digests))
        return {digest: size for digest, _, size in rows}

    async def drop_blocks(self, owner: bytes, digests: Sequence[bytes]) -> int:
        """Give blocks up, and forget those nobody else owns; returns how many the owner had.

        Raises:
            Full, StoreUnavailable: the disk refused; nothing happened.
        """
        return await self._database.write(lambda db: tables.disown(db, owner, digests))

    async def owned_blocks(self, owner: bytes) -> Sequence[BlockRow]:
        """Return the blocks of an owner, in order of their digests."""
        query = """SELECT digest, size, coalesce(heat, 0), coalesce(used_ms, 0) FROM root_block
                   JOIN block USING(digest) LEFT JOIN block_use USING(digest)
                   WHERE root=? ORDER BY digest"""
        return await self._database.read(
            lambda db: [
                BlockRow(digest, size, Use(heat, used_ms))
                for digest, size, heat, used_ms in db.execute(query, (owner,))
            ]
        )

    async def put_manifest(self, raw: bytes) -> Cid:
        """Keep a manifest; its CID is the raw hash of its bytes.

        Raises:
            Full, StoreUnavailable: the disk refused; nothing happened.
        """
        cid = hash_block(raw)

        def run(db: sqlite3.Connection) -> None:
            db.execute("INSERT OR IGNORE INTO manifest VALUES(?)", (cid.raw,))
            tables.write_blocks(db, cid.raw, (raw,), _NO_USE)

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
            tables.disown(db, cid.raw, (cid.digest,))

        await self._database.write(run)

    async def manifests(self) -> Sequence[Cid]:
        """Return the manifests here, in order of their CIDs."""
        query = "SELECT cid FROM manifest ORDER BY cid"
        return await self._database.read(
            lambda db: [decode_cid(row[0]) for row in db.execute(query)]
        )

    async def pin(self, pin: PinRow) -> None:
        """Keep a root under a name; written again it takes the new owner and reason."""
        await self._database.write(lambda db: tables.write_pin(db, pin))

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

    async def pins(self) -> Sequence[PinRow]:
        """Return all pins, by root and name."""
        query = "SELECT root, name, owner, why FROM pin ORDER BY root, name"
        return await self._database.read(
            lambda db: [tables.pin_row(row) for row in db.execute(query)]
        )


def _refuse_pinned(db: sqlite3.Connection, root: Cid) -> None:
    pins = [row[0] for row in db.execute("SELECT name FROM pin WHERE root=?", (root.raw,))]
    if pins:
        names = ", ".join(pins)[: tables.PIN_NAMES_SHOWN]
        raise Conflict(f"{root} is pinned as {names}", hint="unpin it first")


def _forget(db: sqlite3.Connection, root: Cid) -> bool:
    """Delete a file's row, its leaves, and the nodes that nothing else shares; was it here?"""
    is_gone = db.execute("DELETE FROM root WHERE cid=?", (root.raw,)).rowcount > 0
    if is_gone:
        db.execute("DELETE FROM leaf WHERE root=?", (root.raw,))
        tables.disown_all(db, root.raw)
    return is_gone
