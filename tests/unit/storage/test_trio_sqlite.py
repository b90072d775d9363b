"""Contract of the aiosqlite adapter: what a cancelled caller finds, and that threads end."""

import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import accumulate
from pathlib import Path

import aiosqlite
import pytest
import trio
import trio.testing

from prsm.storage import trio_sqlite as module
from prsm.storage.errors import Conflict, Corrupt, Full, StoreUnavailable
from prsm.storage.quickness import QUICK_S, REMEMBERED
from prsm.storage.trio_sqlite import Connection, connect, database_error

ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"


@pytest.fixture
async def connection(tmp_path: Path) -> AsyncIterator[Connection]:
    opened = await connect(str(tmp_path / "db"))
    await opened.write(lambda db: db.execute("CREATE TABLE t(n INTEGER PRIMARY KEY)"))
    yield opened
    await opened.close()


def count(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT count(*) FROM t").fetchone()[0])


def insert(*numbers: int) -> Callable[[sqlite3.Connection], None]:
    def run(db: sqlite3.Connection) -> None:
        db.executemany("INSERT INTO t VALUES(?)", [(number,) for number in numbers])

    return run


def endless(db: sqlite3.Connection) -> object:
    return db.execute(ENDLESS).fetchone()


def test_adapter_is_written_against_this_version() -> None:
    assert aiosqlite.__version__ == "0.22.1"


async def test_write_is_one_transaction(connection: Connection) -> None:
    await connection.write(insert(1, 2))
    with pytest.raises(Conflict):
        await connection.write(insert(3, 2))
    assert await connection.read(count) == 2

    def fails(db: sqlite3.Connection) -> None:
        insert(7)(db)
        raise KeyError("mine")

    with pytest.raises(KeyError):
        await connection.write(fails)
    assert await connection.read(count) == 2


async def test_write_begins_by_rolling_back_what_was_left_open(connection: Connection) -> None:
    await connection.execute("BEGIN")
    await connection.execute("INSERT INTO t VALUES(9)")
    await connection.write(insert(1))
    assert await connection.read(count) == 1


async def places(connection: Connection, numbers: Sequence[int]) -> list[bool]:
    """Write each number by a short write: was it waited for on the loop?"""
    loop, here = threading.get_ident(), []

    def noting(number: int) -> Callable[[sqlite3.Connection], None]:
        def run(db: sqlite3.Connection) -> None:
            here.append(threading.get_ident() == loop)
            insert(number)(db)

        return run

    for number in numbers:
        await connection.write_short(noting(number))
    return here


def at_pace(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Each short write takes that long."""
    readings = accumulate(part for _ in range(1_000) for part in (0.0, seconds))
    monkeypatch.setattr(module, "perf_counter", readings.__next__)


async def test_short_write_takes_no_thread_while_the_disk_is_quick(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_pace(monkeypatch, QUICK_S)
    here = await places(connection, range(REMEMBERED + 2))
    assert here == [False] * REMEMBERED + [True] * 2
    at_pace(monkeypatch, 2 * QUICK_S)
    here = await places(connection, range(100, 100 + REMEMBERED + 2))
    assert here[0]
    assert not here[-1]
    assert await connection.read(count) == 2 * (REMEMBERED + 2)


async def test_short_write_is_one_transaction_in_either_place(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_pace(monkeypatch, 0.0)
    for rounds in (1, REMEMBERED):
        await places(connection, range(100 * rounds, 101 * rounds))
        with pytest.raises(Conflict):
            await connection.write_short(insert(7, 100 * rounds))
    assert await connection.read(count) == 1 + REMEMBERED
    connection._connection, held = None, connection._connection
    with pytest.raises(StoreUnavailable, match="closed"):
        await connection.write_short(insert(7))
    connection._connection = held


async def test_short_write_waits_for_what_its_thread_does(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long transaction is under way, or a read: the connection has one user at a time."""
    at_pace(monkeypatch, 0.0)
    await places(connection, range(REMEMBERED))
    begun, go_on = threading.Event(), threading.Event()

    def long(db: sqlite3.Connection) -> None:
        begun.set()
        assert go_on.wait(5)
        insert(500)(db)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.write, long)
        await trio.to_thread.run_sync(begun.wait)
        nursery.start_soon(places, connection, [501])
        await trio.testing.wait_all_tasks_blocked()
        go_on.set()
    assert await connection.read(count) == REMEMBERED + 2
    assert await places(connection, [502]) == [True]


async def test_cancelled_write_is_whole_or_absent(connection: Connection) -> None:
    started = threading.Event()
    go_on = threading.Event()

    def slow(db: sqlite3.Connection) -> None:
        insert(1)(db)
        started.set()
        assert go_on.wait(5)
        insert(2)(db)

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.write, slow)
            await trio.to_thread.run_sync(started.wait, 5)
            scope.cancel()
            go_on.set()
    assert await connection.read(count) == 2
    with trio.CancelScope() as scope:
        scope.cancel()
        await connection.write(insert(3))
    assert scope.cancelled_caught
    assert await connection.read(count) == 2


async def test_cancelled_read_stops_its_sql(connection: Connection) -> None:
    with trio.fail_after(5):
        with trio.move_on_after(0.02) as scope:
            await connection.read(endless)
        assert scope.cancelled_caught
        assert await connection.read(count) == 0


async def test_cancelled_read_of_many_statements_stops(connection: Connection) -> None:
    def many(db: sqlite3.Connection) -> None:
        while True:
            db.execute("SELECT 1").fetchone()

    with trio.fail_after(5):
        with trio.move_on_after(0.02):
            await connection.read(many)
        assert await connection.read(count) == 0


async def test_read_cancelled_while_queued_never_starts(connection: Connection) -> None:
    started = threading.Event()
    go_on = threading.Event()
    seen: list[str] = []

    def first(_db: sqlite3.Connection) -> str:
        started.set()
        assert go_on.wait(5)
        return "unharmed"

    async def neighbour() -> None:
        seen.append(await connection.read(first))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(neighbour)
        await trio.to_thread.run_sync(started.wait, 5)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as inner:
                inner.start_soon(connection.read, lambda _db: seen.append("started"))
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
                with trio.CancelScope(shield=True):
                    await trio.testing.wait_all_tasks_blocked()
                go_on.set()
        assert scope.cancelled_caught
    assert seen == ["unharmed"]


async def test_close_works_when_cancelled_and_twice(tmp_path: Path) -> None:
    before = threading.active_count()
    connection = await connect(str(tmp_path / "db"))
    with trio.CancelScope() as scope:
        scope.cancel()
        await connection.close()
    await connection.close()
    for call in (connection.read, connection.write):
        with pytest.raises(StoreUnavailable, match="closed"):
            await call(count)
    with pytest.raises(StoreUnavailable, match="closed"):
        await connection.execute("SELECT 1")
    assert threading.active_count() == before


async def test_connect_that_fails_leaves_no_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    with pytest.raises(StoreUnavailable, match="unable to open"):
        await connect(str(tmp_path / "no" / "db"))
    assert threading.active_count() == before


async def test_own_methods_of_aiosqlite_work(connection: Connection) -> None:
    async with connection.execute("SELECT 1 UNION SELECT 2") as cursor:
        assert [tuple(row) async for row in cursor] == [(1,), (2,)]
    with pytest.raises(sqlite3.OperationalError):
        await connection.execute("SELECT nonsense")


def test_thread_ends_when_trio_has_gone(tmp_path: Path) -> None:
    """An answer nobody waits for is dropped; a connection nobody closed stops when collected."""

    async def leave_open() -> Connection:
        connection = await connect(str(tmp_path / "db"))
        reply = connection._submit(lambda: None)
        connection._tx.put_nowait((reply, lambda: None))  # type: ignore[arg-type]  # a reply, no future
        return connection

    connection = trio.run(leave_open)
    thread = connection._thread
    with pytest.warns(ResourceWarning, match="before being closed"):
        connection.__del__()  # type: ignore[no-untyped-call]  # aiosqlite's own
    thread.join(5)
    assert not thread.is_alive()


def test_errors_of_sqlite_are_mapped() -> None:
    def made(code: int) -> sqlite3.Error:
        error = sqlite3.OperationalError("x")
        error.sqlite_errorcode = code
        return error

    assert isinstance(database_error(made(sqlite3.SQLITE_FULL)), Full)
    assert isinstance(database_error(made(sqlite3.SQLITE_IOERR_WRITE)), StoreUnavailable)
    assert isinstance(database_error(made(sqlite3.SQLITE_CORRUPT)), Corrupt)
    assert isinstance(database_error(made(sqlite3.SQLITE_NOTADB)), Corrupt)
    assert isinstance(database_error(made(sqlite3.SQLITE_CONSTRAINT_UNIQUE)), Conflict)
    assert isinstance(database_error(made(sqlite3.SQLITE_READONLY)), StoreUnavailable)
