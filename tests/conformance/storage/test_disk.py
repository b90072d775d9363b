"""One battery for the `Disk` port, on the file system of this machine and on the simulated one."""

from pathlib import Path

import pytest

from prsm.storage.disk import Disk, PosixDisk
from prsm.storage.errors import Conflict, NotFound, StoreUnavailable
from prsm.testnet.sim.disk import FaultyDisk


@pytest.fixture(params=["posix", "faulty"])
def disk(request: pytest.FixtureRequest) -> Disk:
    return PosixDisk() if request.param == "posix" else FaultyDisk(1)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "file")


def test_file_reads_what_was_written(disk: Disk, path: str) -> None:
    file = disk.create(path)
    file.pwrite(0, b"hello")
    file.pwrite(8, b"world")
    file.fdatasync()
    assert (file.size(), file.read(0, 100)) == (13, b"hello\0\0\0world")
    assert (file.read(8, 2), file.read(13, 5), file.read(99, 5)) == (b"wo", b"", b"")
    file.truncate(3)
    assert file.read(0, 100) == b"hel"
    file.close()
    again = disk.open(path)
    assert again.read(0, 100) == b"hel"
    again.close()
    again.close()


def test_names_are_made_moved_and_removed(disk: Disk, path: str) -> None:
    with pytest.raises(NotFound):
        disk.open(path)
    one = disk.create(path)
    one.pwrite(0, b"1")
    with pytest.raises(Conflict):
        disk.create(path)
    two = disk.create(path + ".new")
    two.pwrite(0, b"2")
    assert one.inode != two.inode
    disk.rename(path + ".new", path)
    disk.sync_folder(path)
    assert disk.exists(path)
    assert not disk.exists(path + ".new")
    three = disk.open(path)
    assert (three.read(0, 9), three.inode) == (b"2", two.inode)
    disk.remove(path)
    disk.remove(path)
    assert not disk.exists(path)
    with pytest.raises(NotFound):
        disk.rename(path, path + "x")
    for file in (one, two, three):
        file.close()


def test_lock_has_one_holder_until_it_closes(disk: Disk, path: str) -> None:
    one = disk.create(path)
    two = disk.open(path)
    assert one.lock_nowait()
    assert one.lock_nowait()
    assert not two.lock_nowait()
    one.close()
    assert two.lock_nowait()
    two.close()


def test_closed_file_refuses(disk: Disk, path: str) -> None:
    file = disk.create(path)
    file.close()
    for call in (lambda: file.pwrite(0, b"x"), lambda: file.read(0, 1), file.fdatasync, file.size):
        with pytest.raises(StoreUnavailable, match="closed"):
            call()


def test_nonces_differ(disk: Disk) -> None:
    nonces = {disk.nonce() for _ in range(10)}
    assert len(nonces) == 10
    assert all(0 <= nonce < 2**64 for nonce in nonces)


def test_posix_disk_says_what_the_system_refused(tmp_path: Path) -> None:
    disk = PosixDisk()
    with pytest.raises(StoreUnavailable, match="directory"):
        disk.open(str(tmp_path))
    with pytest.raises(NotFound):
        disk.sync_folder(str(tmp_path / "no" / "file"))
    file = disk.create(str(tmp_path / "file"))
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
    file.close()


def test_posix_disk_maps_a_full_disk() -> None:
    file = PosixDisk().open("/dev/full")
    with pytest.raises(Exception, match="No space left") as caught:
        file.pwrite(0, b"x")
    assert getattr(caught.value, "reason", "") == "disk_full"
    file.close()
