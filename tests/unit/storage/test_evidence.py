"""Pieces on disk: found again, dropped with their unit, bounded, and torn by a crash."""

from pathlib import Path

import pytest

from prsm.storage.errors import Full, StoreUnavailable
from prsm.storage.evidence import EvidenceFiles

JOB = b"j" * 32


def paths(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def remove_all(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


async def test_pieces_are_found_by_the_next_process(tmp_path: Path) -> None:
    files = EvidenceFiles(tmp_path / "evidence")
    await files.keep(JOB, 0, b"in 0", b"zero")
    await files.keep(JOB, 0, b"in 1", b"")
    await files.keep(JOB, 3, b"in 0", b"of another unit")
    await files.keep(JOB, 0, b"in 0", b"a second time")
    again = EvidenceFiles(tmp_path / "evidence")
    assert again.units() == ((JOB, 0), (JOB, 3))
    assert again.names(JOB, 0) == (b"in 0", b"in 1")
    assert again.names(JOB, 7) == ()
    assert await again.read(JOB, 0, b"in 0") == b"zero"
    assert await again.read(JOB, 0, b"in 1") == b""
    assert await again.read(JOB, 3, b"in 0") == b"of another unit"
    assert await again.read(JOB, 3, b"in 0", start=3, size=7) == b"another"
    assert await again.read(JOB, 0, b"in 0", start=2, size=9) == b"ro"
    assert await again.read(JOB, 0, b"in 0", start=5) == b""
    assert await again.read(JOB, 0, b"in 2") is None
    assert await again.read(JOB, 1, b"in 0") is None
    assert again.size == files.size


async def test_a_dropped_unit_gives_its_room_back(tmp_path: Path) -> None:
    files = EvidenceFiles(tmp_path, bytes_max=200)
    await files.keep(JOB, 0, b"a", bytes(150))
    with pytest.raises(Full, match="at most 200"):
        await files.keep(JOB, 1, b"a", bytes(50))
    await files.drop(JOB, 0)
    await files.drop(JOB, 7)
    assert (files.size, paths(tmp_path)) == (0, [])
    await files.keep(JOB, 1, b"a", bytes(50))


async def test_a_unit_dropped_while_it_is_read_has_nothing(tmp_path: Path) -> None:
    """The file goes between the look into the table and the disk."""
    files = EvidenceFiles(tmp_path)
    await files.keep(JOB, 0, b"in", b"inputs")
    remove_all(tmp_path)
    assert await files.read(JOB, 0, b"in") is None


async def test_pieces_of_one_write_are_kept_together_or_not_at_all(tmp_path: Path) -> None:
    files = EvidenceFiles(tmp_path, bytes_max=200)
    await files.keep_all(JOB, 0, ((b"in", b"1"), (b"out", b"22"), (b"none", b"")))
    with pytest.raises(Full):
        await files.keep_all(JOB, 0, ((b"small", b"3"), (b"large", bytes(150))))
    await files.keep_all(JOB, 0, ((b"out", b"again"), (b"more", b"4")))
    for found in (files, EvidenceFiles(tmp_path)):
        assert found.names(JOB, 0) == (b"in", b"out", b"none", b"more")
        assert [await found.read(JOB, 0, name) for name in found.names(JOB, 0)] == [
            *(b"1", b"22", b"", b"4")
        ]


async def test_a_torn_frame_is_cut_off(tmp_path: Path) -> None:
    """A process died while it wrote: what came before stays, and the next frame stands well."""
    files = EvidenceFiles(tmp_path)
    await files.keep(JOB, 0, b"whole", b"123")
    await files.keep(JOB, 0, b"torn", b"456")
    [path] = paths(tmp_path)
    raw = path.read_bytes()
    for size in range(len(raw) - 1, len(raw) - 19, -1):
        path.write_bytes(raw[:size])
        again = EvidenceFiles(tmp_path)
        assert await again.read(JOB, 0, b"whole") == b"123"
        assert not again.has(JOB, 0, b"torn")
        await again.keep(JOB, 0, b"torn", b"456")
        assert path.read_bytes() == raw


async def test_foreign_files_and_a_refusing_disk(tmp_path: Path) -> None:
    (tmp_path / "notes.evidence").write_bytes(b"not of ours")
    files = EvidenceFiles(tmp_path)
    assert files.units() == ()
    (tmp_path / f"{JOB.hex()}-0.evidence").mkdir()
    with pytest.raises(StoreUnavailable):
        await files.keep(JOB, 0, b"a", b"1")
    assert files.size == 0
