"""One writer, read-only readers, numbered migrations, damage refused at the door."""

import os
import shutil
import sqlite3
import stat
from pathlib import Path

import pytest
import trio

from prsm.storage.database import Database, quarantine, snapshot_path
from prsm.storage.errors import Conflict, Corrupt, Full, NotFound, StoreUnavailable
from tests.tools.stores import names

ONE = ("CREATE TABLE t(n INTEGER PRIMARY KEY)", "INSERT INTO t VALUES(1)")
TWO = ("INSERT INTO t VALUES(2)",)


def numbers(db: sqlite3.Connection) -> list[int]:
    return [row[0] for row in db.execute("SELECT n FROM t ORDER BY n")]


def modes(path: Path) -> set[int]:
    return {stat.S_IMODE(Path(f"{path}{end}").stat().st_mode) for end in ("", "-wal", "-shm")}


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


async def test_file_and_its_log_are_the_owners_alone(tmp_path: Path) -> None:
    """Whatever the umask, and also where they were left open to others."""
    path, before = tmp_path / "x.db", os.umask(0o022)
    try:
        for _ in range(2):
            database = await Database.open(path, migrations=(ONE,))
            assert modes(path) == {0o600}
            await database.close()
            path.chmod(0o644)
    finally:
        os.umask(before)


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


async def test_upgrade_keeps_the_file_as_it_was(tmp_path: Path) -> None:
    """Go from schema 1 to 3 at once, back by hand, and on to 4: one older file is kept."""
    path = tmp_path / "a b?.db"
    three = (ONE, TWO, ("INSERT INTO t VALUES(3)",))
    await (await Database.open(path, migrations=(ONE,))).close()
    assert names(tmp_path) == ["a b?.db", "a b?.db.lock"]
    await (await Database.open(path, migrations=three)).close()
    kept = snapshot_path(path, 1)
    assert kept.stat().st_mode & 0o777 == 0o600
    with pytest.raises(StoreUnavailable, match="schema 3, this program knows 1") as caught:
        await Database.open(path, migrations=(ONE,))
    assert str(kept) in caught.value.hint
    with pytest.raises(StoreUnavailable, match="this program knows 2") as caught:
        await Database.open(path, migrations=three[:2])
    assert "schema-" not in caught.value.hint
    shutil.copy(kept, path)
    database = await Database.open(path, migrations=(ONE,))
    assert await database.read(numbers) == [1]
    await database.close()
    await (await Database.open(path, migrations=three)).close()
    four = (*three, ("INSERT INTO t VALUES(4)",))
    await (await Database.open(path, migrations=four)).close()
    assert names(tmp_path) == ["a b?.db", "a b?.db.lock", "a b?.db.schema-3"]


async def test_upgrade_without_room_for_the_copy_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "db"
    await (await Database.open(path, migrations=(ONE,))).close()

    def full(*_args: object) -> None:
        raise Full("no room")

    monkeypatch.setattr("prsm.storage.database.sync_file", full)
    with pytest.raises(Full):
        await Database.open(path, migrations=(ONE, TWO))
    monkeypatch.undo()
    assert names(tmp_path) == ["db", "db.lock"]
    database = await Database.open(path, migrations=(ONE,))
    assert await database.read(numbers) == [1]
    await database.close()


async def test_vacuum_gives_free_pages_back(tmp_path: Path) -> None:
    path = tmp_path / "db"
    database = await Database.open(path, migrations=(ONE, ("CREATE TABLE b(raw BLOB)",)))
    await database.write(lambda db: db.execute("INSERT INTO b VALUES(zeroblob(4000000))"))
    await database.write(lambda db: db.execute("DELETE FROM b"))
    await database.checkpoint()
    assert path.stat().st_size > 4_000_000
    await database.vacuum()
    assert path.stat().st_size < 100_000
    assert await database.read(numbers) == [1]
    await database.close()
