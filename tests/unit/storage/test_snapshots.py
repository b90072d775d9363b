"""Snapshots as files: whole or absent, checked when read, kept over a restart."""

from pathlib import Path

import pytest

from prsm.storage.errors import Corrupt, NotFound, StoreUnavailable
from prsm.storage.snapshots import SnapshotFiles

ONE, TWO = b"1" * 32, b"2" * 32


def chunk(files: SnapshotFiles, height: int, root: bytes) -> bytes:
    return files.part(height, root, at=0, size_max=100)


def test_snapshot_is_there_once_it_is_published(tmp_path: Path) -> None:
    """Chunks are put in any order; leftovers of an earlier try do not come along."""
    files = SnapshotFiles(tmp_path / "snapshots")
    assert files.heights() == []
    staging = files.staging("incoming")
    staging.put(TWO, b"two")
    assert files.heights() == []
    again = SnapshotFiles(tmp_path / "snapshots").staging("incoming")
    assert (again.get(TWO), again.get(ONE)) == (b"two", None)
    again.put(ONE, b"one")
    again.put(b"x" * 32, b"of another snapshot")
    again.publish(7, b"meta", [ONE, TWO])
    assert files.heights() == [7]
    assert (files.meta(7), chunk(files, 7, ONE), chunk(files, 7, TWO)) == (b"meta", b"one", b"two")
    with pytest.raises(NotFound):
        chunk(files, 7, b"x" * 32)
    assert not (tmp_path / "snapshots" / "incoming").exists()


def test_heights_ascend_and_what_is_dropped_is_gone(tmp_path: Path) -> None:
    files = SnapshotFiles(tmp_path)
    for height in (10, 9, 100):
        staging = files.staging("making")
        staging.put(ONE, b"%d" % height)
        staging.publish(height, b"meta", [ONE])
    assert files.heights() == [9, 10, 100]
    files.drop(10)
    files.drop(11)
    assert files.heights() == [9, 100]
    with pytest.raises(NotFound):
        files.meta(10)
    staging = files.staging("making")
    staging.put(ONE, b"again")
    staging.publish(9, b"other", [ONE])
    assert (files.meta(9), chunk(files, 9, ONE)) == (b"other", b"again")
    (tmp_path / "55").mkdir()
    assert files.heights() == [9, 100]


@pytest.mark.parametrize("keep", [0, 3, 5])
def test_damaged_chunk_is_never_read(tmp_path: Path, keep: int) -> None:
    """A flipped bit or a torn file: an error where it is served, absent where it is resumed."""
    files = SnapshotFiles(tmp_path)
    staging = files.staging("incoming")
    staging.put(ONE, b"chunk")
    path = tmp_path / "incoming" / ONE.hex()
    path.write_bytes(path.read_bytes()[:keep])
    assert staging.get(ONE) is None
    staging.put(ONE, b"chunk")
    staging.publish(1, b"meta", [ONE])
    stored = bytearray((tmp_path / "1" / ONE.hex()).read_bytes())
    stored[-1] ^= 1
    (tmp_path / "1" / ONE.hex()).write_bytes(stored)
    with pytest.raises(Corrupt):
        chunk(files, 1, ONE)


def test_chunk_is_read_part_by_part_and_each_is_checked(tmp_path: Path) -> None:
    """Read through once; what rots behind that is seen in the part it is in."""
    files = SnapshotFiles(tmp_path)
    staging = files.staging("incoming")
    staging.put(ONE, b"12345678")
    staging.put(TWO, b"")
    staging.publish(1, b"meta", [ONE, TWO])
    parts = [files.part(1, ONE, at=at, size_max=3) for at in (0, 3, 6, 9, 12)]
    assert parts == [b"123", b"456", b"78", b"", b""]
    assert files.part(1, TWO, at=0, size_max=3) == b""
    with pytest.raises(NotFound, match="no part begins at 4"):
        files.part(1, ONE, at=4, size_max=3)
    path = tmp_path / "1" / ONE.hex()
    path.write_bytes(path.read_bytes()[:-1])
    assert files.part(1, ONE, at=3, size_max=3) == b"456"
    with pytest.raises(Corrupt):
        files.part(1, ONE, at=6, size_max=3)
    with pytest.raises(Corrupt):
        SnapshotFiles(tmp_path).part(1, ONE, at=0, size_max=3)


def test_disk_that_refuses_is_said(tmp_path: Path) -> None:
    """A file where the folder belongs."""
    (tmp_path / "here").write_bytes(b"")
    files = SnapshotFiles(tmp_path / "here")
    with pytest.raises(StoreUnavailable):
        files.staging("incoming").put(ONE, b"x")
    with pytest.raises(StoreUnavailable):
        files.heights()
    files.staging("other").discard()
