"""The ledger on disk: blocks, receipts, state and where each transaction stands.

Knows: heights, hashes, opaque bytes. Must not know: what a block or a state key means, or
whether a block is right (`consensus/ledger` does). One transaction makes a block and everything
it changes durable. Source: docs/spec/storage.md, "Ledger file".
"""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from prsm.storage.database import Database, Migration
from prsm.storage.errors import Conflict, Corrupt
from prsm.storage.ledgerview import LedgerView

_MIGRATIONS: Final[tuple[Migration, ...]] = (
    (
        """CREATE TABLE block(
            height INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE,
            body BLOB NOT NULL, certificate BLOB NOT NULL, receipts BLOB NOT NULL)""",
        """CREATE TABLE tx(
            id BLOB PRIMARY KEY, height INTEGER NOT NULL REFERENCES block(height),
            position INTEGER NOT NULL) WITHOUT ROWID""",
        "CREATE TABLE state(key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
        "CREATE TABLE meta(name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    ),
    (
        """CREATE TABLE epoch_header(
            epoch INTEGER PRIMARY KEY, height INTEGER NOT NULL, header BLOB NOT NULL,
            certificate BLOB NOT NULL, members BLOB NOT NULL)""",
    ),
)


ROWS_SHORT_MAX: Final = 32  # a handful of transfers


@dataclass(frozen=True, slots=True)
class StoredBlock:
    """A committed block: bytes as they were agreed on, and what executing them gave."""

    height: int
    block_hash: bytes
    block: bytes
    certificate: bytes
    receipts: bytes


@dataclass(frozen=True, slots=True)
class EpochHeader:
    """A header of an epoch (its first one), kept when blocks are pruned; canonical bytes."""

    epoch: int
    height: int
    header: bytes  # announces the set of the epoch after by its hash
    certificate: bytes  # of this header, by `members`
    members: bytes  # the set of this epoch


class LedgerStore:
    """The ledger file of one node."""

    def __init__(self, database: Database) -> None:
        """Wrap an open database; `open` is the way in."""
        self._database = database
        self._counted = (-1, 0)  # a height, and the transactions of all blocks up to it

    @classmethod
    async def open(cls, path: Path) -> "LedgerStore":
        """Open or make the ledger and check that its heights have no hole.

        Raises:
            Conflict: another process has it.
            StoreUnavailable: written by a newer version, or the disk refused.
            Corrupt: damaged; put it aside with `database.quarantine` and sync from peers.
        """
        database = await Database.open(path, migrations=_MIGRATIONS)
        try:
            await database.read(_check_heights)
        except BaseException:
            await database.close()  # noqa: ASYNC102 - close() shields itself
            raise
        return cls(database)

    async def close(self) -> None:
        """Close the file."""
        await self._database.close()

    async def checkpoint(self) -> None:
        """Shorten SQLite's log; called when there is nothing else to do."""
        await self._database.checkpoint()

    async def load_state(self) -> dict[bytes, bytes]:
        """Return the whole state after the tip."""
        return await self._database.read(
            lambda connection: dict(connection.execute("SELECT key, value FROM state"))
        )

    async def tip(self) -> tuple[int, bytes] | None:
        """Return height and hash of the last block; None for a ledger without blocks."""
        return await self._database.read(_tip)

    async def commit(
        self,
        block: StoredBlock,
        *,
        changes: Sequence[tuple[bytes, bytes | None]],
        tx_ids: Sequence[bytes],
        epoch: EpochHeader | None = None,
    ) -> None:
        """Make a block, its transactions and its state changes durable, all or nothing.

        Args:
            block: its height is the tip's plus one; the first one may have any height.
            changes: state keys in any order; None removes a key.
            tx_ids: the block's transactions in order.
            epoch: what is kept of the epoch this block begins; None within an epoch.

        Raises:
            Conflict: not the next height, a known hash, or a transaction that stands already.
            Full: no room; nothing happened.
            StoreUnavailable: the disk refused; nothing happened.
        """

        def run(connection: sqlite3.Connection) -> None:
            tip = _tip(connection)
            if tip is not None and block.height != tip[0] + 1:
                raise Conflict(f"block {block.height} after height {tip[0]}")
            _put_block(connection, block)
            rows = [(tx, block.height, position) for position, tx in enumerate(tx_ids)]
            connection.executemany("INSERT INTO tx VALUES(?,?,?)", rows)
            _apply(connection, changes)
            if epoch is not None:
                _put_epoch(connection, epoch)
            height, count = self._counted
            is_next = height == block.height - 1  # not after a commit that failed at this height
            self._counted = (block.height, count + len(tx_ids)) if is_next else (-1, 0)

        await self._database.write(run, is_short=len(changes) + len(tx_ids) <= ROWS_SHORT_MAX)

    async def block(self, height: int) -> StoredBlock | None:
        """Return the block of a height."""
        return await self._database.read(lambda connection: _block(connection, "height", height))

    async def block_by_hash(self, block_hash: bytes) -> StoredBlock | None:
        """Return the block of a hash."""
        return await self._database.read(lambda connection: _block(connection, "hash", block_hash))

    async def blocks(self, first: int, last: int, *, bytes_max: int) -> Sequence[StoredBlock]:
        """Return successive blocks from height `first`, at least one if it is there.

        Args:
            first: height of the first one.
            last: height of the last one, included.
            bytes_max: blocks and certificates together stay below that, but for the first.
        """
        return await self._database.read(
            lambda connection: _blocks(connection, first, last, bytes_max)
        )

    async def epoch_header(self, epoch: int) -> EpochHeader | None:
        """Return what is kept of an epoch for ever, None before its first block."""
        found = await self.epoch_headers(epoch, count_max=1)
        return found[0] if found and found[0].epoch == epoch else None

    async def epoch_headers(self, first: int, *, count_max: int) -> Sequence[EpochHeader]:
        """Return what is kept of epoch `first` and those after it, ascending."""
        query = "SELECT * FROM epoch_header WHERE epoch >= ? ORDER BY epoch LIMIT ?"
        return await self._database.read(
            lambda connection: [
                EpochHeader(*row) for row in connection.execute(query, (first, count_max))
            ]
        )

    async def put_epoch_headers(self, kept: Sequence[EpochHeader]) -> None:
        """Keep checked headers of epochs; those here stay, unless they have other members.

        Raises:
            Full: no room.
            StoreUnavailable: the disk refused.
        """

        def run(connection: sqlite3.Connection) -> None:
            for epoch in kept:
                _put_epoch(connection, epoch)

        await self._database.write(run)

    async def first_height(self) -> int | None:
        """Return the lowest height whose block is here; None for a ledger without blocks."""
        return await self._database.read(_first)

    async def view(self) -> LedgerView:
        """Return the state after the tip as it is now, for a long read beside later commits.

        Raises:
            StoreUnavailable, Corrupt: what sqlite refused.
        """
        return await trio.to_thread.run_sync(LedgerView.open, self._database.path)

    async def install(
        self, block: StoredBlock, *, state: Mapping[bytes, bytes], epochs: Sequence[EpochHeader]
    ) -> None:
        """Put a proven state in the place of everything: all of it or nothing, in one transaction.

        Blocks and transactions below are forgotten; headers of epochs stay, `epochs` join them or
        take the place of those with other members.

        Args:
            block: the last one in `state`; above the tip.
            state: whole.
            epochs: kept from here on.

        Raises:
            Conflict: not above the tip.
            Full: no room; nothing happened.
            StoreUnavailable: the disk refused; nothing happened.
        """

        def run(connection: sqlite3.Connection) -> None:
            tip = _tip(connection)
            if tip is not None and block.height <= tip[0]:
                raise Conflict(f"a state of height {block.height} over height {tip[0]}")
            for table in ("state", "tx", "block"):
                connection.execute(f"DELETE FROM {table}")  # noqa: S608 - three constants
            connection.executemany("INSERT INTO state VALUES(?,?)", sorted(state.items()))
            _put_block(connection, block)
            for epoch in epochs:
                _put_epoch(connection, epoch)
            self._counted = (-1, 0)

        await self._database.write(run)

    async def prune(self, below: int, *, count_max: int) -> int:
        """Forget the lowest blocks and where their transactions stand; never the tip.

        Args:
            below: blocks of this height and above stay.
            count_max: of blocks, since commits wait meanwhile.

        Returns:
            How many blocks were forgotten.

        Raises:
            StoreUnavailable: the disk refused; nothing happened.
        """

        def run(connection: sqlite3.Connection) -> int:
            tip, low = _tip(connection), _first(connection)
            if tip is None or low is None or low >= (end := min(below, tip[0], low + count_max)):
                return 0
            # Only a node that prunes needs it: else each transaction would pay for it.
            connection.execute("CREATE INDEX IF NOT EXISTS tx_height ON tx(height)")
            connection.execute("DELETE FROM tx WHERE height < ?", (end,))
            connection.execute("DELETE FROM block WHERE height < ?", (end,))
            self._counted = (-1, 0)
            return end - low

        return await self._database.write(run)

    async def count_transactions(self) -> int:
        """Return how many transactions the blocks here hold; counted once, then kept along.

        A commit that failed or is not visible yet leaves a height that is not the tip's, and a
        height that is not the tip's is counted again.
        """

        def run(connection: sqlite3.Connection) -> int:
            tip = _tip(connection)
            height, count = self._counted
            if tip is None or tip[0] != height:
                count = int(connection.execute("SELECT count(*) FROM tx").fetchone()[0])
                self._counted = (-1 if tip is None else tip[0], count)
            return count

        return await self._database.read(run)

    async def find_tx(self, tx_id: bytes) -> tuple[int, int] | None:
        """Return height and position of a committed transaction."""

        def run(connection: sqlite3.Connection) -> tuple[int, int] | None:
            query = "SELECT height, position FROM tx WHERE id=?"
            row: tuple[int, int] | None = connection.execute(query, (tx_id,)).fetchone()
            return row

        return await self._database.read(run)

    async def get_meta(self, name: str) -> bytes | None:
        """Return a named value, such as the digest of the genesis."""

        def run(connection: sqlite3.Connection) -> bytes | None:
            row = connection.execute("SELECT value FROM meta WHERE name=?", (name,)).fetchone()
            return None if row is None else bytes(row[0])

        return await self._database.read(run)

    async def put_meta(self, name: str, value: bytes) -> None:
        """Set a named value.

        Raises:
            Full: no room.
            StoreUnavailable: the disk refused.
        """

        def run(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO meta VALUES(?,?)", (name, value))

        await self._database.write(run)

    async def put_state(self, changes: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Set the state before the first block, from the genesis.

        Raises:
            Conflict: there are blocks already.
        """

        def run(connection: sqlite3.Connection) -> None:
            if (tip := _tip(connection)) is not None:
                raise Conflict(f"the ledger has height {tip[0]}: state moves only with a block")
            _apply(connection, changes)

        await self._database.write(run)


def _apply(connection: sqlite3.Connection, changes: Sequence[tuple[bytes, bytes | None]]) -> None:
    kept = [change for change in changes if change[1] is not None]
    gone = [(key,) for key, value in changes if value is None]
    connection.executemany("DELETE FROM state WHERE key=?", gone)
    connection.executemany("INSERT OR REPLACE INTO state VALUES(?,?)", kept)


def _put_block(connection: sqlite3.Connection, block: StoredBlock) -> None:
    connection.execute(
        "INSERT INTO block VALUES(?,?,?,?,?)",
        (block.height, block.block_hash, block.block, block.certificate, block.receipts),
    )


def _put_epoch(connection: sqlite3.Connection, kept: EpochHeader) -> None:
    """Keep what was checked; an epoch has one set, so a row with other members was wrong."""
    connection.execute(
        "INSERT INTO epoch_header VALUES(?,?,?,?,?) ON CONFLICT(epoch) DO UPDATE SET "
        "height=excluded.height, header=excluded.header, certificate=excluded.certificate, "
        "members=excluded.members WHERE members<>excluded.members",
        (kept.epoch, kept.height, kept.header, kept.certificate, kept.members),
    )


def _tip(connection: sqlite3.Connection) -> tuple[int, bytes] | None:
    query = "SELECT height, hash FROM block ORDER BY height DESC LIMIT 1"
    row: tuple[int, bytes] | None = connection.execute(query).fetchone()
    return row


def _first(connection: sqlite3.Connection) -> int | None:
    found: int | None = connection.execute("SELECT min(height) FROM block").fetchone()[0]
    return found


def _block(connection: sqlite3.Connection, column: str, key: int | bytes) -> StoredBlock | None:
    assert column in {"height", "hash"}
    row = connection.execute(
        f"SELECT height, hash, body, certificate, receipts FROM block WHERE {column}=?",  # noqa: S608 - two constants
        (key,),
    ).fetchone()
    return None if row is None else StoredBlock(*row)


def _blocks(
    connection: sqlite3.Connection, first: int, last: int, bytes_max: int
) -> list[StoredBlock]:
    query = (
        "SELECT height, hash, body, certificate, receipts FROM block"
        " WHERE height BETWEEN ? AND ? ORDER BY height"
    )
    found: list[StoredBlock] = []
    total = 0
    for row in connection.execute(query, (first, last)):
        block = StoredBlock(*row)
        total += len(block.block) + len(block.certificate)
        if found and total > bytes_max:
            break
        if block.height != first + len(found):
            break
        found.append(block)
    return found


def _check_heights(connection: sqlite3.Connection) -> None:
    query = "SELECT count(*), min(height), max(height) FROM block"
    count, low, high = connection.execute(query).fetchone()
    if count and high - low + 1 != count:
        raise Corrupt(
            f"{count} blocks between heights {low} and {high}",
            hint="the ledger must be fetched anew from peers",
        )
