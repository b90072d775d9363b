"""Receipts on disk: kept whole, dropped, found again, and a disk that refuses."""

from pathlib import Path

import pytest

from prsm.storage.errors import Conflict, StoreUnavailable
from prsm.storage.receipts import ReceiptFiles

JOB = b"j" * 32


async def test_receipts_are_found_by_the_next_process(tmp_path: Path) -> None:
    """Kept, replaced, dropped: the next start sees what is left, in the order of names."""
    files = ReceiptFiles(tmp_path / "receipts")
    await files.keep(JOB, 1, b"one")
    await files.keep(JOB, 0, b"zero")
    await files.keep(JOB, 1, b"one with more")
    await files.keep(JOB, 2, b"two")
    await files.drop(JOB, 2)
    await files.drop(JOB, 9)
    assert await ReceiptFiles(tmp_path / "receipts").load() == [b"zero", b"one with more"]


async def test_half_written_receipt_is_gone_after_a_start(tmp_path: Path) -> None:
    """A process died between write and rename: the old receipt stays, the fragment goes."""
    folder = tmp_path / "receipts"
    await ReceiptFiles(folder).keep(JOB, 0, b"whole")
    (folder / f".{JOB.hex()}-0.receipt.4711").write_bytes(b"ha")
    files = ReceiptFiles(folder)
    assert await files.load() == [b"whole"]
    assert [path.suffix for path in folder.iterdir()] == [".receipt"]


async def test_file_that_is_too_large_is_left_alone(tmp_path: Path) -> None:
    """No receipt is a megabyte: it is not read into memory."""
    files = ReceiptFiles(tmp_path)
    (tmp_path / "x.receipt").write_bytes(bytes(1024 * 1024 + 1))
    assert await files.load() == []


async def test_folder_is_private(tmp_path: Path) -> None:
    """Made with mode 0700."""
    ReceiptFiles(tmp_path / "receipts")
    assert (tmp_path / "receipts").stat().st_mode & 0o777 == 0o700


async def test_refusing_disk_is_a_typed_error(tmp_path: Path) -> None:
    """A folder that cannot be made, went away, or holds a folder where a file should be."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Conflict):
        ReceiptFiles(tmp_path / "file")
    files = ReceiptFiles(tmp_path / "receipts")
    (tmp_path / "receipts" / f"{JOB.hex()}-0.receipt").mkdir()
    with pytest.raises(StoreUnavailable):
        await files.drop(JOB, 0)
    with pytest.raises(StoreUnavailable):
        await files.load()
    with pytest.raises(StoreUnavailable):
        await files.keep(JOB, 0, b"receipt")
