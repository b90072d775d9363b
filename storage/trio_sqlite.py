"""aiosqlite on trio: its worker thread stays, the asyncio parts are overridden.

Knows: aiosqlite 0.22.1 inside out (the contract tests break when that changes), trio, and what
sqlite's error codes mean. Must not know: schemas. The only importer of aiosqlite.

Two calls are ours and are what the stores use: `write` is one transaction in one hop to the
thread, shielded, so that a cancelled caller finds it whole or absent; `read` can be cancelled
while its SQL runs. Source: docs/spec/storage.md, "SQLite".
"""

import sqlite3
from collections.abc import Callable
from functools import partial
from threading import Lock
from time import perf_counter
from typing import Final, Generic, TypeVar

import aiosqlite
import trio
from typing_extensions import override

from prsm.storage.errors import Conflict, Corrupt, Full, StoreUnavailable
from prsm.storage.quickness import Quickness

_T = TypeVar("_T")
_INTERRUPT_EVERY_S: Final = 0.02
_STOP: Final = aiosqlite.core._STOP_RUNNING_SENTINEL  # noqa: SLF001 - no public name


class _Reply(Generic[_T]):
    """What aiosqlite's thread takes for an asyncio future and its loop."""

    def __init__(self, on_done: Callable[[], None] = lambda: None) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._on_done = on_done
        self._event = trio.Event()
        self._value: _T | None = None
        self._error: BaseException | None = None

    def get_loop(self) -> "_Reply[_T]":
        return self

    def call_soon_threadsafe(self, call: Callable[..., object], *args: object) -> None:
        try:
            self._token.run_sync_soon(call, *args)
        except trio.RunFinishedError:
            # Nobody is left to hear it; raised here it would end the thread with a traceback.
            return

    def done(self) -> bool:
        return self._event.is_set()

    def cancelled(self) -> bool:
        return False

    def set_result(self, value: _T) -> None:
        self._value = value
        self._event.set()
        self._on_done()

    def set_exception(self, error: BaseException) -> None:
        self._error = error
        self._event.set()
        self._on_done()

    async def wait(self) -> None:
        await self._event.wait()

    async def wait_shielded(self) -> None:
        with trio.CancelScope(shield=True):
            await self._event.wait()

    def unwrap(self) -> _T:
        assert self._event.is_set()
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]  # set_result was called with a _T


class _ReadJob(Generic[_T]):
    """A read that may be struck out before it starts, or interrupted while it runs."""

    def __init__(self, fn: Callable[[sqlite3.Connection], _T]) -> None:
        self._fn = fn
        self._lock = Lock()
        self._struck = False
        self._running: sqlite3.Connection | None = None

    def run(self, connection: sqlite3.Connection) -> _T:
        with self._lock:
            if self._struck:
                raise sqlite3.OperationalError("struck out before it started")
            self._running = connection
        try:
            return self._fn(connection)
        finally:
            with self._lock:
                self._running = None

    def stop(self) -> None:
        """Strike it out, or interrupt its statement; never harms a neighbour's statement."""
        with self._lock:
            self._struck = True
            if self._running is not None:
                self._running.interrupt()


class Connection(aiosqlite.Connection):
    """A connection with its own thread; `close` it, or the interpreter never exits."""

    def __init__(self, connector: Callable[[], sqlite3.Connection], iter_chunk_size: int) -> None:
        super().__init__(connector, iter_chunk_size)
        self._open = 0  # jobs of the thread that are not known to be over
        self._quickness = Quickness()  # of short writes

    async def write(self, fn: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run `fn` between BEGIN IMMEDIATE and COMMIT, in one hop, shielded.

        Cancelled before it begins, nothing happens; cancelled later, it is finished first.

        Raises:
            Full, StoreUnavailable, Corrupt, Conflict: what sqlite refused; rolled back.
        """
        await trio.lowlevel.checkpoint()
        reply = self._submit(partial(_transact, self._conn, fn))
        await reply.wait_shielded()
        return reply.unwrap()

    async def write_short(self, fn: Callable[[sqlite3.Connection], _T]) -> _T:
        """Do what `write` does for a few small rows: on a quick disk here, the loop waiting for it.

        Raises:
            Full, StoreUnavailable, Corrupt, Conflict: what sqlite refused; rolled back.
        """
        if self._open or not self._running or not self._quickness.is_quick:
            await trio.lowlevel.checkpoint()
            reply = self._submit(partial(self._timed, fn))
            await reply.wait_shielded()
            return reply.unwrap()
        await trio.lowlevel.checkpoint_if_cancelled()
        return self._timed(fn)

    async def read(self, fn: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run `fn` in one hop; on cancellation its statement is interrupted.

        Raises:
            Full, StoreUnavailable, Corrupt, Conflict: what sqlite refused.
        """
        await trio.lowlevel.checkpoint()
        job = _ReadJob(fn)
        reply = self._submit(partial(job.run, self._conn))
        try:
            await reply.wait()
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                # Between two statements of `fn` there is nothing to interrupt: ask again.
                while not reply.done():
                    job.stop()
                    with trio.move_on_after(_INTERRUPT_EVERY_S):
                        await reply.wait()
            raise
        try:
            return reply.unwrap()
        except sqlite3.Error as error:
            raise database_error(error) from error

    @override
    async def close(self) -> None:
        """Close the file and end the thread, also when cancelled; a second call does nothing."""
        if not self._running:
            return
        reply = self.stop()
        assert isinstance(reply, _Reply)
        await reply.wait_shielded()
        self._thread.join()
        reply.unwrap()

    @override
    def stop(self) -> "_Reply[object] | None":  # type: ignore[override]  # no asyncio future
        """Close in the thread and end it; outside trio (garbage collection) without an answer."""
        self._running = False

        def close_and_stop() -> object:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()
            return _STOP

        reply: _Reply[object] | None = _Reply() if trio.lowlevel.in_trio_run() else None
        self._tx.put_nowait((reply, close_and_stop))  # type: ignore[arg-type]  # see _Reply
        return reply

    @override
    async def _execute(self, fn: Callable[..., _T], *args: object, **kwargs: object) -> _T:
        """Run one call of aiosqlite's own methods, shielded."""
        await trio.lowlevel.checkpoint()
        if not self._running or not self._connection:
            raise StoreUnavailable("the database connection is closed")
        reply = self._submit(partial(fn, *args, **kwargs))
        await reply.wait_shielded()
        return reply.unwrap()

    @override
    async def _connect(self) -> "Connection":
        if self._connection is None:
            reply = self._submit(self._connector)
            await reply.wait_shielded()
            try:
                self._connection = reply.unwrap()
            except BaseException:
                self.stop()
                self._thread.join()
                raise
        return self

    @property
    @override
    def _conn(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StoreUnavailable("the database connection is closed")
        return self._connection

    def _submit(self, job: Callable[[], _T]) -> _Reply[_T]:
        reply: _Reply[_T] = _Reply(self._note_done)
        self._open += 1
        self._tx.put_nowait((reply, job))  # type: ignore[arg-type]  # see _Reply
        return reply

    def _note_done(self) -> None:
        self._open -= 1

    def _timed(self, fn: Callable[[sqlite3.Connection], _T]) -> _T:
        began = perf_counter()
        result = _transact(self._conn, fn)
        self._quickness.note(perf_counter() - began)
        return result


async def connect(location: str, *, uri: bool = False) -> Connection:
    """Open a database file, without implicit transactions.

    Raises:
        StoreUnavailable: it cannot be opened.
    """
    connector = partial(
        sqlite3.connect, location, uri=uri, isolation_level=None, check_same_thread=False
    )
    connection = Connection(connector, iter_chunk_size=64)
    try:
        await connection
    except sqlite3.Error as error:
        raise database_error(error) from error
    return connection


def database_error(
    error: sqlite3.Error,
) -> Full | StoreUnavailable | Corrupt | Conflict:
    """Say what an error of sqlite means for the caller."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    text = f"database: {error} ({name})"
    if code == sqlite3.SQLITE_FULL:
        return Full(text, hint="free some space; the node goes on by itself")
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return Corrupt(text, hint="the file is damaged: it must be fetched anew from peers")
    if code == sqlite3.SQLITE_CONSTRAINT:
        return Conflict(text)
    return StoreUnavailable(text, hint="look at the disk and its rights (dmesg, df, mount)")


def _transact(connection: sqlite3.Connection, fn: Callable[[sqlite3.Connection], _T]) -> _T:
    try:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = fn(connection)
            connection.execute("COMMIT")
        except BaseException:
            # A full disk has rolled back by itself.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    except sqlite3.Error as error:
        raise database_error(error) from error
    return result
