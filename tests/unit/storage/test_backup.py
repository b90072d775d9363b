"""The sealed file: what went in comes out, and nothing else ever does."""

import io
import stat
from pathlib import Path

import pytest

from prsm.protocol.errors import LocalError
from prsm.storage import backup as module
from prsm.storage.backup import BadBackup, Manifest, Part, open_backup, write_backup
from prsm.storage.errors import Conflict, NotFound, WrongPassword
from prsm.storage.keystore import Cost

PASSWORD = "correct horse"
CHUNK = 64


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many chunks in a small file."""
    monkeypatch.setattr(module, "CHUNK_BYTES", CHUNK)


def write(path: Path, parts: dict[str, bytes], *, password: str = PASSWORD) -> Path:
    manifest = Manifest(
        version=1,
        schema=1,
        made_ms=7,
        genesis=b"g" * 32,
        height=3,
        head=b"h" * 32,
        parts=tuple(Part(name, len(raw)) for name, raw in parts.items()),
    )
    files = [io.BytesIO(raw) for raw in parts.values()]
    write_backup(path, manifest, files, password=password, cost=Cost.DEVELOPMENT)
    return path


def read(path: Path, *, password: str = PASSWORD) -> dict[str, bytes]:
    with open_backup(path, password=password) as backup:
        return {part.name: b"".join(chunks) for part, chunks in backup.parts()}


@pytest.mark.parametrize("size", [0, 1, *range(CHUNK - 2, CHUNK + 3), 5 * CHUNK + 7])
def test_backup_gives_back_every_part(tmp_path: Path, size: int) -> None:
    parts = {"a": b"x" * size, "b": b"", "c": bytes(range(200))}
    path = write(tmp_path / "backup", parts)
    assert read(path) == parts
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"xxxxxxxx" not in path.read_bytes()


def test_every_changed_byte_is_refused(tmp_path: Path) -> None:
    """Goal: no region is believed. Method: flip a bit of every third byte, of all in the head."""
    path = write(tmp_path / "backup", {"a": b"a" * 150, "b": b"b" * 40})
    raw = path.read_bytes()
    for place in (*range(64), *range(64, len(raw), 3)):
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
        with pytest.raises((BadBackup, WrongPassword)) as caught:
            read(path)
        assert "\n" not in caught.value.what


def test_every_cut_is_refused_also_at_the_end_of_a_chunk(tmp_path: Path) -> None:
    path = write(tmp_path / "backup", {"a": b"a" * 3 * CHUNK})
    raw = path.read_bytes()
    for size in {*range(0, len(raw), 7), *range(len(raw) - 3 * (CHUNK + 16), len(raw), 16)}:
        path.write_bytes(raw[:size])
        with pytest.raises((BadBackup, WrongPassword)):
            read(path)
    start = 12 + int.from_bytes(raw[8:12], "big")
    last = (len(raw) - start) % (CHUNK + 16) or CHUNK + 16
    path.write_bytes(raw[:-last])  # whole chunks only: the new last one was not sealed as such
    with pytest.raises(BadBackup, match="damaged or cut off"):
        read(path)
    path.write_bytes(raw + b"x")
    with pytest.raises(BadBackup, match="damaged or cut off"):
        read(path)


def test_chunks_cannot_be_moved_or_taken_from_another_backup(tmp_path: Path) -> None:
    one = write(tmp_path / "one", {"a": b"a" * 6 * CHUNK}).read_bytes()
    two = write(tmp_path / "two", {"a": b"a" * 6 * CHUNK}).read_bytes()
    sealed, size = CHUNK + 16, len(one)
    assert size == len(two)
    end = size - 2 * sealed
    swapped = (
        one[: end - sealed] + one[end : end + sealed] + one[end - sealed : end] + one[-sealed:]
    )
    mixed = one[:end] + two[end:]
    for raw in (swapped, mixed):
        path = tmp_path / "forged"
        path.write_bytes(raw)
        with pytest.raises(BadBackup, match="damaged or cut off"):
            read(path)


def test_wrong_and_empty_passwords_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "backup", {"a": b"a"})
    with pytest.raises(WrongPassword, match="wrong password"):
        read(path, password="another")
    with pytest.raises(LocalError, match="empty password"):
        write(tmp_path / "second", {"a": b"a"}, password="")
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_overwritten_and_no_half_file_is_left(tmp_path: Path) -> None:
    path = write(tmp_path / "backup", {"a": b"a"})
    with pytest.raises(Conflict, match="exists already"):
        write(path, {"a": b"b"})
    manifest = Manifest(1, 1, 0, b"g" * 32, 0, b"h" * 32, (Part("a", 9),))
    for raw in (b"short", b"longer than it was"):
        with pytest.raises(BadBackup, match="a changed its size"):
            write_backup(
                tmp_path / "half", manifest, [io.BytesIO(raw)], password="x", cost=Cost.DEVELOPMENT
            )
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("raw", [b"", b"prsmbak1", b"prsmbak1\0\0\0\x04abcd", b"prsmchn1" * 20])
def test_another_file_is_no_backup(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "backup"
    path.write_bytes(raw)
    with pytest.raises(BadBackup, match="no backup"):
        read(path)
    with pytest.raises(NotFound):
        read(tmp_path / "absent")


def test_backup_that_nobody_could_read_is_not_written(tmp_path: Path) -> None:
    """As many parts as may be are read again; one more, or longer names, are refused before."""
    most = {f"data/audit-{number}.log": b"" for number in range(module.PARTS_MAX)}
    assert len(read(write(tmp_path / "most", most))) == module.PARTS_MAX
    with pytest.raises(BadBackup, match=r"1025 files in [0-9]+ bytes of names, at most 1024"):
        write(tmp_path / "more", most | {"one": b""})
    long = {f"{number}".rjust(256, "x"): b"" for number in range(1020)}
    with pytest.raises(BadBackup, match="at most 1024 in 262144"):
        write(tmp_path / "long", long)
    assert [one.name for one in tmp_path.iterdir()] == ["most"]
