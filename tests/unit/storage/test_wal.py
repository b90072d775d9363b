"""The consensus log: what survives which damage, on a disk that loses what was not synced."""

import struct
import zlib
from itertools import pairwise
from pathlib import Path

import pytest

from prsm.storage.disk import PosixDisk
from prsm.storage.errors import Full, StoreUnavailable
from prsm.storage.wal import TURN_BYTES_MAX, Replay, Wal
from prsm.testnet.sim.disk import FaultyDisk, PowerCut

TURNS = [[b"one"], [b"two", b""], [b"3" * 2000], [b"four"]]
FRAME = (*range(4), *range(8, 16))  # length and segment's number, in a record
FLAT = tuple(payload for turn in TURNS for payload in turn)


def written(disk: FaultyDisk) -> Wal:
    wal, replay = Wal.open(disk, "wal")
    assert replay == Replay(0, (), torn_tail=False, damaged=None, created=True)
    wal.rotate(7, [b"kept"])
    for turn in TURNS:
        wal.append(turn)
    return wal


def reopened(disk: FaultyDisk) -> Replay:
    disk.kill()
    return Wal.open(disk, "wal")[1]


def test_wal_replays_turns_and_low_mark(tmp_path: Path) -> None:
    path = str(tmp_path / "wal")
    wal, _ = Wal.open(PosixDisk(), path)
    wal.rotate(7, [b"kept"])
    for turn in TURNS:
        wal.append(turn)
    wal.append([])
    wal.close()
    wal, replay = Wal.open(PosixDisk(), path)
    assert replay == Replay(7, (b"kept", *FLAT), torn_tail=False, damaged=None, created=False)
    wal.append([b"more"])
    assert wal.size == (tmp_path / "wal").stat().st_size
    wal.close()
    wal, replay = Wal.open(PosixDisk(), path)
    assert replay.records[-1] == b"more"
    wal.close()
    assert list(tmp_path.iterdir()) == [tmp_path / "wal"]


def test_wal_syncs_once_a_turn() -> None:
    disk = FaultyDisk(1)
    wal, _ = Wal.open(disk, "wal")
    before = disk.operations
    wal.append([b"a", b"b", b"c"])
    assert disk.operations - before == 2  # one write, one fdatasync


def test_wal_cuts_off_every_incomplete_last_record() -> None:
    whole = FaultyDisk(1)
    start = written(whole).size
    whole_bytes = whole.contents("wal")
    last = 16 + 4 + len(TURNS[-1][0])
    for length in range(start - last, start):
        disk = FaultyDisk(1)
        disk.create("wal").pwrite(0, whole_bytes[:length])
        wal, replay = Wal.open(disk, "wal")
        assert replay.damaged is None
        assert replay.torn_tail == (length > start - last)
        assert replay.records == (b"kept", *FLAT[:-1])
        assert len(disk.contents("wal")) == wal.size
        wal.append([b"after"])
        assert reopened(disk).records == (b"kept", *FLAT[:-1], b"after")


def test_wal_finds_a_flipped_bit_anywhere() -> None:
    """Also in the last record: who takes it for a cut one forgets a promise."""
    disk = FaultyDisk(1)
    size = written(disk).size
    last = size - (16 + 4 + len(TURNS[-1][0]))
    for byte in [*range(200), *range(200, last, 37), *range(last, size)]:
        bit = 8 * byte + byte % 8
        disk.flip("wal", bit)
        replay = reopened_without_repair(disk)
        assert not replay.torn_tail
        if byte - last in FRAME:  # the checksum says what the record is
            assert (replay.records, replay.damaged) == ((b"kept", *FLAT), None)
        else:
            assert replay.damaged is not None, byte
        if byte - last >= 16:
            assert replay.records == (b"kept", *FLAT[:-1])
        disk.flip("wal", bit)
    assert reopened(disk).records == (b"kept", *FLAT)


@pytest.mark.parametrize("before", range(430, 460))
def test_wal_finds_a_flipped_bit_of_a_last_record_that_begins_anywhere(before: int) -> None:
    """Also where a sector ends inside its frame, whose first bytes are zeros."""
    disk = FaultyDisk(1)
    wal, _ = Wal.open(disk, "wal")
    wal.append([b"b" * before])
    start = wal.size
    turn = bytes(range(1, 256))
    wal.append([turn])
    whole = disk.contents("wal")
    for byte in range(start, len(whole)):
        for bit in range(8):
            disk.flip("wal", 8 * byte + bit)
            replay = reopened_without_repair(disk)
            if replay.damaged is None:
                assert byte - start in FRAME
                assert replay.records == (b"b" * before, turn)
            disk.flip("wal", 8 * byte + bit)


def test_wal_mends_the_frame_of_a_last_record_for_good() -> None:
    """More is written behind it, and neither an open log nor a file of its own length is needed."""
    for field in FRAME:
        disk = FaultyDisk(1)
        size = written(disk).size
        disk.flip("wal", 8 * (size - (16 + 4 + len(TURNS[-1][0])) + field))
        disk.kill()
        wal, replay = Wal.open(disk, "wal")
        assert replay.records == (b"kept", *FLAT)
        assert wal.size == size
        wal.append([b"more"])
        disk.power_cut()
        assert Wal.open(disk, "wal")[1].records == (b"kept", *FLAT, b"more")


def test_damaged_wal_is_kept_as_it_was_found() -> None:
    """A frame is written anew for a good record only: the rest is for who looks into it."""
    disk = FaultyDisk(1)
    wal = written(disk)
    (segment,) = struct.unpack(">Q", disk.contents("wal")[8:16])
    payload = b"\xff" * 9  # an entry longer than the record
    checksum = zlib.crc32(payload, zlib.crc32(struct.pack(">Q", segment)))
    broken = struct.pack(">IIQ", 1, checksum, segment) + payload
    raw = disk.contents("wal") + broken
    copy = FaultyDisk(2)
    copy.create("wal").pwrite(0, raw)
    replay = Wal.open(copy, "wal")[1]
    assert replay.damaged is not None
    assert replay.records == (b"kept", *FLAT)
    assert copy.contents("wal") == raw
    assert wal.size == len(raw) - len(broken)


@pytest.mark.parametrize("before", [0, 100, *range(430, 460), 490, 496, 511])
def test_wal_takes_no_cut_write_for_damage(before: int) -> None:
    """Whichever of its sectors a power cut left out, and however short the file is then.

    Where all that was left out is the length, the checksum says what was written.
    """
    disk = FaultyDisk(1)
    wal, _ = Wal.open(disk, "wal")
    wal.append([b"b" * before])
    start = wal.size
    wal.append([bytes(range(1, 256)) * 6])
    whole = disk.contents("wal")
    edges = [start, *range((start // 512 + 1) * 512, len(whole), 512), len(whole)]
    for lost in range(1, 2 ** (len(edges) - 1)):
        left = bytearray(whole)
        for number, (first, behind) in enumerate(pairwise(edges)):
            if lost >> number & 1:
                left[first:behind] = bytes(behind - first)
        for raw in (left, left[: max(start, len(left.rstrip(b"\0")))]):
            copy = FaultyDisk(2)
            copy.create("wal").pwrite(0, bytes(raw))
            replay = Wal.open(copy, "wal")[1]
            assert replay.damaged is None
            is_all = lost == 1 and edges[1] - start <= 4 and len(raw) == len(whole)
            assert replay.records[:1] == (b"b" * before,)
            assert len(replay.records) == (2 if is_all else 1)


def reopened_without_repair(disk: FaultyDisk) -> Replay:
    copy = FaultyDisk(2)
    copy.create("wal").pwrite(0, disk.contents("wal"))
    return Wal.open(copy, "wal")[1]


def test_damaged_wal_refuses_to_append_until_rotated() -> None:
    disk = FaultyDisk(1)
    written(disk)
    disk.flip("wal", 8 * 100)
    disk.kill()
    wal, replay = Wal.open(disk, "wal")
    assert replay.damaged is not None
    with pytest.raises(StoreUnavailable, match="damaged"):
        wal.append([b"x"])
    wal.rotate(9, [])
    wal.append([b"x"])
    assert disk.exists("wal.quarantine")
    replay = reopened(disk)
    assert (replay.low_mark, replay.records, replay.damaged) == (9, (b"x",), None)


def test_wal_makes_durable_what_it_reads() -> None:
    """A process killed between write and sync leaves a record that is in the page cache only."""
    for seed in range(20):
        disk = FaultyDisk(seed)
        wal, _ = Wal.open(disk, "wal")
        disk.cut_at = disk.operations + 2
        with pytest.raises(PowerCut):
            wal.append([b"a" * 600])
        disk.kill()
        assert Wal.open(disk, "wal")[1].records == (b"a" * 600,)
        disk.power_cut()
        assert Wal.open(disk, "wal")[1].records == (b"a" * 600,)


@pytest.mark.parametrize("raw", [b"", b"\0", bytes(32), bytes(5000), b"prsmwal1" * 8])
def test_wal_without_a_head_is_damaged(raw: bytes) -> None:
    disk = FaultyDisk(1)
    disk.create("wal").pwrite(0, raw)
    replay = Wal.open(disk, "wal")[1]
    assert (replay.records, replay.created) == ((), False)
    assert replay.damaged is not None


def test_wal_ignores_records_of_an_older_segment() -> None:
    """Stale blocks of a dropped file behind the end of the new one are no records."""
    old = FaultyDisk(1)
    written(old)
    new = FaultyDisk(2)
    wal, _ = Wal.open(new, "wal")
    wal.append([b"good"])
    new.open("wal").pwrite(wal.size, old.contents("wal")[32:])
    replay = reopened(new)
    assert (replay.records, replay.torn_tail, replay.damaged) == ((b"good",), True, None)


def test_torn_payload_that_imitates_a_record_is_no_damage() -> None:
    """Whoever chooses a payload does not know the number of the segment."""
    payload = b"\0\0\0\1evil"
    fake = struct.pack(">IIQ", len(payload), zlib.crc32(payload, zlib.crc32(bytes(8))), 0) + payload
    disk = FaultyDisk(1)
    wal, _ = Wal.open(disk, "wal")
    end = wal.size
    wal.append([fake * 10])
    disk.open("wal").truncate(end + 16 + 4 + 9 * len(fake))
    replay = reopened(disk)
    assert (replay.records, replay.torn_tail, replay.damaged) == ((), True, None)


def test_wal_bounds_a_turn() -> None:
    wal, _ = Wal.open(FaultyDisk(1), "wal")
    with pytest.raises(Full, match="at most"):
        wal.append([bytes(TURN_BYTES_MAX)])
    wal.append([b"fine"])


def test_wal_with_a_closed_file_says_so() -> None:
    wal, _ = Wal.open(FaultyDisk(1), "wal")
    wal.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        wal.append([b"x"])
    with pytest.raises(StoreUnavailable, match="closed"):
        wal.rotate(1, [])


@pytest.mark.parametrize("seed", range(20))
def test_wal_makes_the_name_durable_that_a_cut_rotation_left(seed: int) -> None:
    """The rename was in the cache; the record behind it was synced, and its file had no name."""
    disk = FaultyDisk(seed)
    wal, _ = Wal.open(disk, "wal")
    wal.append([b"old"])
    disk.fail_at = {disk.operations + 5: StoreUnavailable}  # behind create, write, sync, rename
    with pytest.raises(StoreUnavailable):
        wal.rotate(1, [])
    disk.kill()
    wal, found = Wal.open(disk, "wal")
    wal.append([b"promised"])
    disk.power_cut()
    assert Wal.open(disk, "wal")[1].records == (*found.records, b"promised")


def scenario(disk: FaultyDisk, promised: list[bytes]) -> None:
    """Write turns and rotate; `promised` is what may be relied on after each step."""
    wal, replay = Wal.open(disk, "wal")
    promised[:] = replay.records
    for number in range(6):
        turn = [b"%d-%d" % (number, i) * (1 + 300 * (number % 2)) for i in range(3)]
        wal.append(turn)
        promised += turn
        if number % 3 == 2:
            wal.rotate(number, [b"kept"])
            promised[:] = [b"kept"]


@pytest.mark.parametrize("error", [Full, StoreUnavailable])
def test_wal_keeps_every_promise_when_an_operation_fails(
    error: type[Full] | type[StoreUnavailable],
) -> None:
    clean = FaultyDisk(0)
    scenario(clean, [])
    for operation in range(1, clean.operations + 1):
        disk = FaultyDisk(operation)
        disk.fail_at = {operation: error}
        promised: list[bytes] = []
        with pytest.raises(error):
            scenario(disk, promised)
        disk.power_cut()
        replay = Wal.open(disk, "wal")[1]
        assert replay.damaged is None
        check_kept(replay, promised, operation)


@pytest.mark.parametrize("seed", range(20))
def test_wal_keeps_every_promise_when_the_power_goes(seed: int) -> None:
    """Cut the power in each operation; the log comes back clean with all that was promised."""
    clean = FaultyDisk(0)
    scenario(clean, [])
    for operation in range(1, clean.operations + 1):
        disk = FaultyDisk(1000 * seed + operation)
        disk.cut_at = operation
        promised: list[bytes] = []
        with pytest.raises(PowerCut):
            scenario(disk, promised)
        disk.power_cut()
        replay = Wal.open(disk, "wal")[1]
        assert replay.damaged is None, (seed, operation)
        check_kept(replay, promised, operation)


def check_kept(replay: Replay, promised: list[bytes], operation: int) -> None:
    """The turn in flight may be there too; a rotation in flight may have happened."""
    kept = list(replay.records)
    assert kept[: len(promised)] == promised or kept == [b"kept"], operation
    assert len(kept) - len(promised) in {0, 3} or kept == [b"kept"], operation
