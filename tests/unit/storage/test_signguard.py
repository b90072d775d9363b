"""The sign guard: it only grows, survives torn slots, and knows its own file."""

from contextlib import suppress
from pathlib import Path

import pytest

from prsm.storage.disk import PosixDisk
from prsm.storage.errors import Conflict, Corrupt, Full, NotFound, StoreUnavailable
from prsm.storage.signguard import Mark, SignGuard
from prsm.testnet.sim.disk import FaultyDisk, PowerCut

A, B = b"a" * 32, b"b" * 32


def test_guard_is_read_back(tmp_path: Path) -> None:
    path = str(tmp_path / "guard")
    disk = PosixDisk()
    guard = SignGuard.create(disk, path)
    assert guard.latest() == Mark()
    guard.advance(0, 1, 0, 1, A)
    guard.advance(0, 1, 0, 2, A)
    guard.advance(0, 1, 0, 2, A)  # sent once more
    guard.sync()
    with pytest.raises(Conflict, match="another process"):
        SignGuard.open(disk, path)
    guard.close()
    guard = SignGuard.open(disk, path)
    assert guard.latest() == Mark(0, 1, 0, 2, A)
    guard.advance(1, 0, 0, 0, B)
    guard.close()
    assert (tmp_path / "guard").stat().st_size == 4096 + 128


@pytest.mark.parametrize(
    ("position", "digest"),
    [
        ((2, 5, 1, 2), B),  # equivocation
        ((2, 5, 1, 1), A),
        ((2, 5, 0, 9), A),
        ((2, 4, 9, 9), A),
        ((1, 9, 9, 9), A),
    ],
)
def test_guard_refuses_to_go_back(position: tuple[int, int, int, int], digest: bytes) -> None:
    disk = FaultyDisk(1)
    guard = SignGuard.create(disk, "guard")
    guard.advance(2, 5, 1, 2, A)
    with pytest.raises(Conflict, match="after"):
        guard.advance(*position, digest)
    assert guard.latest() == Mark(2, 5, 1, 2, A)


def test_guard_absent_or_made_twice() -> None:
    disk = FaultyDisk(1)
    with pytest.raises(NotFound):
        SignGuard.open(disk, "guard")
    guard = SignGuard.create(disk, "guard")
    guard.close()
    with pytest.raises(Conflict, match="exists"):
        SignGuard.create(disk, "guard")
    guard = SignGuard.create(disk, "guard", mark=Mark(1, 2, 3), replace=True)
    assert guard.latest() == Mark(1, 2, 3)


def test_guard_knows_a_copy() -> None:
    disk = FaultyDisk(1)
    SignGuard.create(disk, "guard").close()
    disk.copy("guard", "backup")
    with pytest.raises(Corrupt, match="copy"):
        SignGuard.open(disk, "backup")
    SignGuard.open(disk, "guard").close()


def test_guard_moves_with_its_folder(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    SignGuard.create(PosixDisk(), str(tmp_path / "one" / "guard")).close()
    (tmp_path / "one").rename(tmp_path / "two")
    SignGuard.open(PosixDisk(), str(tmp_path / "two" / "guard")).close()


def test_guard_survives_any_flipped_bit_of_one_slot() -> None:
    """A harmed newer slot leaves the older one: the guard trails, it never invents."""
    for byte in range(128):
        disk = FaultyDisk(1)
        guard = SignGuard.create(disk, "guard")
        guard.advance(0, 1, 0, 1, A)
        guard.advance(0, 2, 0, 1, B)
        guard.close()
        disk.flip("guard", 8 * (4096 + byte) + 3)  # where the newer mark stands
        guard = SignGuard.open(disk, "guard")
        assert guard.latest() == Mark(0, 1, 0, 1, A)
        guard.close()  # the harmed slot was written anew
        disk.flip("guard", 8 * (4096 + byte) + 3)
        disk.flip("guard", 8 * byte + 3)
        with pytest.raises(Corrupt, match="no slot"):
            SignGuard.open(disk, "guard")


@pytest.mark.parametrize("length", [0, 1, 127, 4096])
def test_guard_cut_short(length: int) -> None:
    disk = FaultyDisk(1)
    guard = SignGuard.create(disk, "guard")
    guard.close()
    file = disk.open("guard")
    file.truncate(length)
    if length < 128:
        with pytest.raises(Corrupt):
            SignGuard.open(disk, "guard")
    else:
        SignGuard.open(disk, "guard")


def test_guard_write_that_fails_signs_nothing_and_can_be_repeated() -> None:
    disk = FaultyDisk(3)
    guard = SignGuard.create(disk, "guard")
    guard.advance(0, 1, 0, 1, A)
    disk.fail_at = {disk.operations + 1: StoreUnavailable, disk.operations + 2: Full}
    for error in (StoreUnavailable, Full):
        with pytest.raises(error):
            guard.advance(0, 2, 0, 1, B)
        assert guard.latest() == Mark(0, 1, 0, 1, A)
    disk.kill()
    guard = SignGuard.open(disk, "guard")
    assert guard.latest() == Mark(0, 1, 0, 1, A)
    guard.advance(0, 2, 0, 1, B)
    disk.kill()
    assert SignGuard.open(disk, "guard").latest() == Mark(0, 2, 0, 1, B)


def test_guard_trails_but_never_lies_after_a_power_cut() -> None:
    for seed in range(200):
        disk = FaultyDisk(seed)
        guard = SignGuard.create(disk, "guard")
        for height in range(1, 6):
            guard.advance(0, height, 0, 1, bytes([height]) * 32)
            if height == 2:
                guard.sync()
        disk.power_cut()
        mark = SignGuard.open(disk, "guard").latest()
        assert 1 <= mark.height <= 5
        assert mark.digest == bytes([mark.height]) * 32


def test_guard_is_readable_after_a_cut_in_any_write() -> None:
    """A slot that is half written and the other one lost: the marks of creation are left."""
    for seed in range(200):
        for operation in range(1, 5):
            disk = FaultyDisk(seed)
            guard = SignGuard.create(disk, "guard")
            disk.cut_at = disk.operations + operation
            with suppress(PowerCut):
                for height in range(1, 5):
                    guard.advance(0, height, 0, 1, A)
            disk.power_cut()
            assert SignGuard.open(disk, "guard").latest().height <= operation


def test_creation_cut_by_the_power_leaves_a_guard_or_none() -> None:
    for seed in range(100):
        for operation in range(1, 8):
            disk = FaultyDisk(seed)
            disk.cut_at = operation
            with suppress(PowerCut):
                SignGuard.create(disk, "guard")
            disk.power_cut()
            disk.kill()
            if disk.exists("guard"):
                assert SignGuard.open(disk, "guard").latest() == Mark()


@pytest.mark.parametrize("is_restarted", [True, False])
def test_guard_is_readable_after_a_refused_write_and_a_later_power_cut(is_restarted: bool) -> None:
    """One slot half written before, also in an earlier life, the other cut off: never both lost."""
    for seed in range(60):
        disk = FaultyDisk(seed)
        guard = SignGuard.create(disk, "guard")
        for height in (1, 2):
            guard.advance(0, height, 0, 2, bytes(32))
        disk.fail_at = {disk.operations + 1: StoreUnavailable}
        with pytest.raises(StoreUnavailable):
            guard.advance(0, 3, 0, 2, bytes(32))
        if is_restarted:
            disk.kill()
            guard = SignGuard.open(disk, "guard")
        guard.advance(0, 3, 0, 2, bytes(32))
        disk.cut_at = disk.operations + 1
        with pytest.raises(PowerCut):
            guard.advance(0, 4, 0, 2, bytes(32))
        disk.power_cut()
        assert SignGuard.open(disk, "guard").latest().height <= 4


def test_guard_makes_the_name_durable_that_a_cut_creation_left() -> None:
    """The rename was in the cache: what is noted from the next start on has a file."""
    for seed in range(20):
        disk = FaultyDisk(seed)
        disk.fail_at = {7: StoreUnavailable}  # behind create, three writes, sync, rename
        with pytest.raises(StoreUnavailable):
            SignGuard.create(disk, "guard")
        disk.kill()
        SignGuard.open(disk, "guard").advance(0, 1, 0, 2, bytes(32))
        disk.power_cut()
        assert disk.exists("guard")
