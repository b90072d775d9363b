"""A database file as every store of this node opens one: one writer, readers that cannot write.

Knows: pragmas, migrations, checkpoints. Must not know: what the tables mean.

Invariants: exactly one connection of the machine writes and checkpoints (a lock file holds
that): SQLite 3.7.0 to 3.51.2 can corrupt a file when two do; readers are opened `mode=ro`,
since `query_only` still lets a reader checkpoint and delete the log; `synchronous=FULL`, since
NORMAL loses acknowledged commits at a power cut.
"""

import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from glob import escape
from pathlib import Path
from typing import Final, TypeVar

import trio

from prsm.storage.disk import DiskFile, PosixDisk, disk_error, sync_file
from prsm.storage.errors import Conflict, Corrupt, NotFound, StoreUnavailable
from prsm.storage.trio_sqlite import Connection, connect, database_error

_T = TypeVar("_T")
READERS_MAX: Final = 4
# A checkpoint that leaves the log large costs reads; TRUNCATE above this, PASSIVE below.
LOG_BYTES_MAX: Final = 64 * 1024 * 1024

Migration = Sequence[str]  # statements of one step, run in one transaction


class Database:
    """An open database file."""

    def __init__(self, path: Path, writer: Connection, lock: DiskFile) -> None:
        """Wrap an open writer; `open` is the way in."""
        self._path = path
        self._writer = writer
        self._lock = lock
        self._readers: list[Connection] = []
        self._idle: list[Connection] = []
        self._room = trio.Semaphore(1)

    @classmethod
    async def open(
        cls, path: Path, *, migrations: Sequence[Migration], readers: int = 2
    ) -> "Database":
        """Open or make the file, check it, and bring its schema up to date.

        Args:
            path: the file; its folder exists.
            migrations: step n brings schema n to n + 1.
            readers: read-only connections, 1 to 4.

        Raises:
            Conflict: another process has it open for writing.
            StoreUnavailable: its schema is newer than this program, or the disk refused.
            Corrupt: `quick_check` finds damage.
        """
        assert 1 <= readers <= READERS_MAX
        lock = _lock(path)
        try:
            _make_private(path)
            writer = await connect(str(path))
        except BaseException:
            lock.close()
            raise
        database = cls(path, writer, lock)
        try:
            await writer.read(_prepare)
            await database._migrate(migrations)
            for _ in range(readers):
                database._readers.append(await connect(_as_uri(path), uri=True))
            database._idle = list(database._readers)
            database._room = trio.Semaphore(readers)
        except BaseException:
            await database.close()  # noqa: ASYNC102 - close() shields itself
            raise
        return database

    async def write(self, fn: Callable[[sqlite3.Connection], _T], *, is_short: bool = False) -> _T:
        """Run one transaction, in one hop, shielded: whole or absent.

        Args:
            fn: its statements.
            is_short: a few small rows; on a quick disk without the hop.

        Raises:
            Full, StoreUnavailable, Corrupt, Conflict: what sqlite refused; rolled back.
        """
        return await (self._writer.write_short(fn) if is_short else self._writer.write(fn))

    async def read(self, fn: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run a query on a read-only connection; it stops when the caller is cancelled.

        Raises:
            StoreUnavailable, Corrupt: what sqlite refused.
        """
        async with self._room:
            if not self._idle:
                raise StoreUnavailable(f"{self._path} is closed")
            reader = self._idle.pop()
            try:
                return await reader.read(fn)
            finally:
                self._idle.append(reader)

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    async def vacuum(self) -> None:
        """Write the file anew without its free pages; other writers wait.

        Raises:
            Full: no room for a second copy; nothing happened.
            StoreUnavailable: the disk refused.
        """
        await self._writer.read(_vacuum)
        await self.checkpoint()

    async def checkpoint(self) -> None:
        """Move the log into the file; called when the writer has nothing else to do.

        Raises:
            StoreUnavailable: the disk refused.
        """
        large = _size(Path(f"{self._path}-wal")) > LOG_BYTES_MAX
        await self._writer.read(_truncate_log if large else _move_log)

    async def close(self) -> None:
        """Close readers, empty the log, close the writer; shielded, and once is enough."""
        with trio.CancelScope(shield=True):
            self._idle = []
            for reader in self._readers:
                await reader.close()
            await self._writer.close()
            self._lock.close()

    async def _migrate(self, migrations: Sequence[Migration]) -> None:
        have = await self._writer.read(_schema)
        if have > len(migrations):
            older = snapshot_path(self._path, len(migrations))
            back = f", or put {older} in its place (what came later is lost)"
            raise StoreUnavailable(
                f"{self._path} has schema {have}, this program knows {len(migrations)}",
                hint="start the newer version of prsm that wrote it"
                + (back if older.exists() else ""),
            )
        if 0 < have < len(migrations):
            await trio.to_thread.run_sync(_keep_snapshot, self._path, have)
        if have < len(migrations):
            # One transaction: there is no schema between the snapshot's and this program's.
            await self._writer.write(_upgrade(migrations[have:], len(migrations)))


def open_view(path: Path) -> sqlite3.Connection:
    """Open one more reader, for a read of seconds that must not take a reader of the pool.

    Blocks: call it in a thread; any one thread at a time may use the connection.

    Raises:
        StoreUnavailable, Corrupt: what sqlite refused.
    """
    try:
        return sqlite3.connect(
            _as_uri(path), uri=True, isolation_level=None, check_same_thread=False
        )
    except sqlite3.Error as error:
        raise database_error(error) from error


def copy_database(source: Path, target: Path) -> None:
    """Copy a database, also one in use, as it stands after some transaction.

    One read transaction of SQLite's backup API over a `mode=ro` connection: the writer goes on,
    and what it commits meanwhile is not in the copy. Blocks: call it in a thread.

    Args:
        source: a database; somebody keeps it open, so that nobody removes its log meanwhile.
        target: a new file.

    Raises:
        StoreUnavailable, Corrupt, Full: what sqlite refused.
    """
    try:
        with (
            closing(sqlite3.connect(_as_uri(source), uri=True)) as old,
            closing(sqlite3.connect(target)) as new,
        ):
            target.chmod(0o600)
            # All pages in one step: stepwise it begins anew whenever the writer commits.
            old.backup(new, pages=-1)
    except sqlite3.Error as error:
        raise database_error(error) from error


def snapshot_path(path: Path, schema: int) -> Path:
    """Return where the file is kept as it was with that schema, before its upgrade."""
    return path.with_name(f"{path.name}.schema-{schema}")


def quarantine(path: Path) -> Path:
    """Put a damaged, closed database aside, never repairing it in place.

    Raises:
        NotFound: there is none.
    """
    aside = path.with_name(path.name + ".quarantine")
    for suffix in ("-wal", "-shm"):
        log = Path(f"{path}{suffix}")
        if log.exists():
            log.replace(f"{aside}{suffix}")
    if not path.exists():
        raise NotFound(f"{path} does not exist")
    path.replace(aside)
    PosixDisk().sync_folder(str(path))
    return aside


def _lock(path: Path) -> DiskFile:
    disk = PosixDisk()
    name = f"{path}.lock"
    try:
        lock = disk.create(name)
    except Conflict:
        lock = disk.open(name)
    if lock.lock_nowait():
        return lock
    lock.close()
    raise Conflict(
        f"{path} is open for writing already", hint="one daemon uses a home; stop the other one"
    )


def _prepare(connection: sqlite3.Connection) -> None:
    try:
        mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        if mode != "wal":
            raise StoreUnavailable(f"journal mode is {mode}: this file system cannot map memory")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.Error as error:
        raise database_error(error) from error
    if found != "ok":
        raise Corrupt(f"quick_check: {found}", hint="the file must be fetched anew from peers")


def _make_private(path: Path) -> None:
    """Make the file the owner's before SQLite opens it: its log gets the mode the file has."""
    try:
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        for name in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
            with suppress(FileNotFoundError):
                name.chmod(0o600)
    except OSError as error:
        raise disk_error(error, str(path)) from error


def _keep_snapshot(path: Path, schema: int) -> None:
    """Copy a file before its upgrade; the copy of a broken-off upgrade is taken as it is.

    Raises:
        Full: no room for the copy; nothing happened, and the file is as it was.
    """
    kept = snapshot_path(path, schema)
    if kept.exists():
        return
    fresh = kept.with_name(kept.name + ".new")
    fresh.unlink(missing_ok=True)
    try:
        copy_database(path, fresh)
        sync_file(fresh)
        PosixDisk().rename(str(fresh), str(kept))
    finally:
        fresh.unlink(missing_ok=True)
    PosixDisk().sync_folder(str(kept))
    for older in path.parent.glob(f"{escape(path.name)}.schema-*"):
        if older != kept:
            older.unlink()


def _as_uri(path: Path) -> str:
    return path.absolute().as_uri() + "?mode=ro"


def _schema(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _upgrade(steps: Sequence[Migration], schema: int) -> Callable[[sqlite3.Connection], None]:
    def run(connection: sqlite3.Connection) -> None:
        for statements in steps:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version={schema:d}")

    return run


def _move_log(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()


def _vacuum(connection: sqlite3.Connection) -> None:
    connection.execute("VACUUM")


def _truncate_log(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116 - one call
    except FileNotFoundError:
        return 0
