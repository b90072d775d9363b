"""The chain file: what was written is read, and every other byte is refused in one line."""

import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prsm.protocol.limits import BULK_FRAME_BYTES_MAX
from prsm.storage.chainfile import MAGIC, BadChainFile, ChainFile, ChainHead, write_chain
from prsm.storage.errors import Conflict, NotFound

GENESIS = b"g" * 32
RECORDS = [b"one", b"two" * 100, b"3"]


def write(path: Path, records: list[bytes] = RECORDS, *, first: int = 5) -> Path:
    with write_chain(path, ChainHead(1, GENESIS, first, first + len(records) - 1)) as writer:
        for record in records:
            writer.add(record)
    assert writer.size_bytes == path.stat().st_size
    return path


def read(path: Path) -> list[tuple[int, bytes]]:
    return list(ChainFile.open(path).records())


def test_chain_file_gives_back_heights_and_records(tmp_path: Path) -> None:
    path = write(tmp_path / "chain")
    assert ChainFile.open(path).head == ChainHead(1, GENESIS, 5, 7)
    assert read(path) == list(enumerate(RECORDS, start=5))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_no_file_is_overwritten_and_none_is_left_half_written(tmp_path: Path) -> None:
    path = write(tmp_path / "chain")
    with pytest.raises(Conflict, match="exists already"):
        write(path)
    with pytest.raises(AssertionError, match="hole"):
        write_short(tmp_path / "short")
    with pytest.raises(NotFound, match="nowhere"):
        write(tmp_path / "nowhere" / "chain")
    assert list(tmp_path.iterdir()) == [path]


def write_short(path: Path) -> None:
    with write_chain(path, ChainHead(1, GENESIS, 1, 2)) as writer:
        writer.add(b"one")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_changed_byte_and_every_cut_is_refused(data: st.DataObject) -> None:
    """Goal: no region of the file is believed. Method: flip or cut anywhere, read all."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chain"
        raw = bytearray(write(path).read_bytes())
        place = data.draw(st.integers(0, len(raw) - 1))
        if data.draw(st.booleans()):
            raw[place] ^= data.draw(st.integers(1, 255))
        else:
            del raw[place:]
        path.write_bytes(raw)
        with pytest.raises(BadChainFile) as caught:
            read(path)
        assert "\n" not in caught.value.what


def test_bytes_behind_the_checksum_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "chain")
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(BadChainFile, match="checksum"):
        read(path)


def test_a_frame_above_the_limit_is_refused_by_its_height_before_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "chain")
    raw = bytearray(path.read_bytes())
    place = raw.index(b"one") - 4
    raw[place : place + 4] = (BULK_FRAME_BYTES_MAX + 1).to_bytes(4, "big")
    path.write_bytes(raw)
    with pytest.raises(BadChainFile, match="height 5"):
        read(path)


@pytest.mark.parametrize("raw", [b"", MAGIC, MAGIC + b"\xff\xff\xff\xff", b"SQLite format 3\0" * 9])
def test_another_file_is_no_chain_file(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "chain"
    path.write_bytes(raw)
    with pytest.raises(BadChainFile, match="no chain file"):
        ChainFile.open(path)
    with pytest.raises(NotFound):
        ChainFile.open(tmp_path / "absent")
