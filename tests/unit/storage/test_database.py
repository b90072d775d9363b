"""One writer, read-only readers, numbered migrations, damage refused at the door."""

import sqlite3
from pathlib import Path

import pytest
import trio

from prsm.storage.database import Database, quarantine
from prsm.storage.errors import Conflict, Corrupt, NotFound, StoreUnavailable

ONE = ("CREATE TABLE t(n INTEGER PRIMARY KEY)", "INSERT INTO t VALUES(1)")
TWO = ("INSERT INTO t VALUES(2)",)


def numbers(db: sqlite3.Connection) -> list[int]:
    return [row[0] for row in db.execute("SELECT n FROM t ORDER BY n")]


async def test_database_migrates_forward_and_refuses_a_newer_file(tmp_path: Path) -> None:
    path = tmp_path / "a b?.db"
    database = await Database.open(path, migrations=(ONE,))
    assert await database.read(numbers) == [1]
    await database.close()
    database = await Database.open(path, migrations=(ONE, TWO))
    assert await database.read(numbers) == [1, 2]
    await database.close()
    with pytest.raises(StoreUnavailable, match="schema 2, this program knows 1"):
        await Database.open(path, migrations=(ONE,))
    assert path.stat().st_mode & 0o777 == 0o600


async def test_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "db"
    await (await Database.open(path, migrations=(ONE,))).close()
    with pytest.raises(StoreUnavailable, match="nonsense"):
        await Database.open(path, migrations=(ONE, (*TWO, "nonsense")))
    database = await Database.open(path, migrations=(ONE, TWO))
    assert await database.read(numbers) == [1, 2]
    await database.close()


async def test_database_has_the_pragmas_that_survive_a_power_cut(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "db", migrations=(ONE,))

    def pragmas(db: sqlite3.Connection) -> tuple[object, ...]:
        names = ("journal_mode", "synchronous", "foreign_keys", "wal_autocheckpoint")
        return tuple(db.execute(f"PRAGMA {name}").fetchone()[0] for name in names)

    assert await database.write(pragmas) == ("wal", 2, 1, 0)
    await database.close()


async def test_readers_cannot_write_or_checkpoint(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "db", migrations=(ONE,))
    with pytest.raises(StoreUnavailable, match="readonly"):
        await database.read(lambda db: db.execute("INSERT INTO t VALUES(9)"))
    log = tmp_path / "db-wal"
    size = log.stat().st_size
    assert size > 0
    with pytest.raises(StoreUnavailable):
        await database.read(lambda db: db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone())
    assert log.stat().st_size == size
    await database.checkpoint()
    await database.close()
    assert not log.exists()


async def test_readers_are_bounded_and_wait(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "db", migrations=(ONE,), readers=1)
    seen: list[list[int]] = []

    async def one() -> None:
        seen.append(await database.read(numbers))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(one)
    assert seen == [[1]] * 10
    await database.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await database.read(numbers)
    with pytest.raises(StoreUnavailable, match="closed"):
        await database.write(numbers)


async def test_second_writer_is_refused(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "db", migrations=(ONE,))
    with pytest.raises(Conflict, match="already"):
        await Database.open(tmp_path / "db", migrations=(ONE,))
    await database.close()
    await (await Database.open(tmp_path / "db", migrations=(ONE,))).close()


async def test_damaged_file_is_refused_and_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "db"
    database = await Database.open(path, migrations=(ONE,))
    await database.write(
        lambda db: db.executemany("INSERT INTO t VALUES(?)", [(n,) for n in range(2, 3000)])
    )
    await database.close()
    raw = bytearray(path.read_bytes())
    raw[4096:4116] = bytes(20)
    path.write_bytes(raw)
    with pytest.raises(Corrupt):
        await Database.open(path, migrations=(ONE,))
    assert quarantine(path).read_bytes() == bytes(raw)
    database = await Database.open(path, migrations=(ONE,))
    assert await database.read(numbers) == [1]
    await database.close()
    path.unlink()
    with pytest.raises(NotFound):
        quarantine(path)


async def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "db").write_bytes(b"no database at all, " * 100)
    with pytest.raises(Corrupt, match="not a database"):
        await Database.open(tmp_path / "db", migrations=(ONE,))
    with pytest.raises((StoreUnavailable, NotFound)):
        await Database.open(tmp_path / "no" / "db", migrations=(ONE,))
