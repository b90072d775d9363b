"""CARs byte for byte, and every way in which a file can be none."""

import tracemalloc
from io import BytesIO
from random import Random

import pytest
from typing_extensions import override

from prsm.protocol.errors import PrsmError, Unsupported
from prsm.protocol.limits import BLOCK_BYTES_MAX
from prsm.storage.cid import Cid, Codec, hash_block
from prsm.storage.dag.car import BadCar, CarReader, CarWriter, encode_header, write_car
from prsm.storage.dag.unixfs import LEGACY, UNIXFS_V1_2025
from prsm.storage.errors import Corrupt
from tests.tools.dags import car_bytes, file_blocks

LEAF = hash_block(b"abc")
NODE = Cid(Codec.DAG_PB, bytes(range(32)))
HEADER = bytes.fromhex("3aa265726f6f747381d82a582500") + LEAF.raw + b"\x67version\x01"
RECORD = b"\x27" + LEAF.raw + b"abc"


def test_car_has_the_bytes_of_the_specification() -> None:
    assert car_bytes(LEAF, [(LEAF, b"abc")]) == HEADER + RECORD


def test_car_of_version_0_names_blocks_by_34_bytes() -> None:
    known = bytes.fromhex("38a265726f6f747381d82a582300") + NODE.raw[2:] + b"\x67version\x01"
    assert encode_header(NODE, version=0) == known
    dag, blocks = file_blocks(b"x" * 10, LEGACY)
    raw = car_bytes(dag.root, blocks, version=0)
    reader = CarReader(BytesIO(raw))
    assert (reader.root, list(reader)) == (dag.root, blocks)
    assert raw[57 + 1 :].startswith(b"\x12\x20")


def test_every_block_comes_back_and_repeated_ones_are_written_once() -> None:
    dag, blocks = file_blocks(bytes(1 << 20) * 3 + b"end", UNIXFS_V1_2025)
    raw = car_bytes(dag.root, blocks)
    reader = CarReader(BytesIO(raw))
    assert reader.root == dag.root
    assert list(reader) == list(dict(blocks).items())
    assert len(blocks) == 5
    assert len(list(CarReader(BytesIO(raw)))) == 3


def test_writer_refuses_bytes_of_another_hash() -> None:
    out = BytesIO()
    with pytest.raises(Corrupt):
        write_car(out, LEAF, [(LEAF, b"abd")])
    assert out.getvalue() == HEADER


def test_writer_says_what_it_has() -> None:
    writer = CarWriter(BytesIO(), LEAF)
    assert not writer.has(LEAF)
    writer.add(LEAF, b"abc")
    assert writer.has(LEAF)
    assert (writer.blocks, writer.bytes) == (1, len(HEADER + RECORD))


def read_all(raw: bytes) -> None:
    for _ in CarReader(BytesIO(raw)):
        pass


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "empty"),
        (b"GARBAGE" * 20, "header"),
        (HEADER[:-1], "ends"),
        (b"\x3b" + HEADER[1:] + b"\0", "header"),
        (HEADER + b"\0", "record of 0"),
        (HEADER + b"\x21" + bytes(33), "record of 33"),
        (HEADER + RECORD[:-1], "ends"),
        (HEADER + RECORD + b"\x80", "does not end"),
        (HEADER + RECORD + b"trailing", "ends"),
        (HEADER + b"\xff\xff\xff\xff\x7f", "too large"),
        (HEADER + b"\xa5\x80\x80\x01" + LEAF.raw, "at most|are read"),
        (HEADER + b"\xa7\x00" + RECORD[1:], "more bytes than it needs"),
        (HEADER + b"\x27" + LEAF.raw + b"abd", "other bytes"),
        (HEADER + b"\x27\x01\x55\x00\x23" + bytes(35), "sha2-256"),  # identity
        (HEADER + b"\x27\x01\x55\x1b\x20" + bytes(35), "sha2-256"),  # keccak
        (HEADER + b"\x27\x01\x71\x12\x20" + bytes(35), "0x71"),  # dag-cbor
        (HEADER + b"\x27\x02\x55\x12\x20" + bytes(35), "sha2-256"),  # version 2
        (HEADER.replace(b"\x12\x20", b"\x1b\x20", 1), "root"),
        (HEADER.replace(b"\x58\x25\0", b"\x58\x25\1", 1), "canonical"),
        (b"\x80\x10" + HEADER[1:], "header"),
    ],
)
def test_reader_refuses(raw: bytes, why: str) -> None:
    with pytest.raises(BadCar, match=why):
        read_all(raw)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"\x0a\xa1\x67version\x02" + bytes(40), "CARv2"),
        (b"\x11\xa2\x65roots\x80\x67version\x01", "0 roots"),
        (
            b"\x63\xa2\x65roots\x82" + 2 * (b"\xd8\x2a\x58\x25\0" + LEAF.raw) + b"\x67version\x01",
            "2 roots",
        ),
    ],
)
def test_reader_names_what_it_does_not_read(raw: bytes, why: str) -> None:
    with pytest.raises(Unsupported, match=why):
        read_all(raw)


def test_every_cut_is_refused_or_ends_behind_a_record() -> None:
    raw = HEADER + RECORD + RECORD
    whole = {len(HEADER), len(HEADER + RECORD), len(raw)}
    for size in range(len(raw) + 1):
        try:
            read_all(raw[:size])
        except BadCar:
            assert size not in whole
        else:
            assert size in whole


def test_every_flipped_bit_is_refused() -> None:
    raw = HEADER + RECORD
    for bit in range(8 * len(raw)):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            reader = CarReader(BytesIO(bytes(changed)))
            found = list(reader)
        except PrsmError:
            continue
        # Another root, or a codec that names the same bytes.
        assert reader.root != LEAF or found[0][0].digest == LEAF.digest


def test_reading_and_writing_hold_one_block() -> None:
    """64 MiB through both: the peak stays at a few blocks."""
    dice = Random(3)
    block = dice.randbytes(BLOCK_BYTES_MAX)

    class Endless(BytesIO):
        """The same two records again and again."""

        left = 32

        @override
        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            if data or not self.left:
                return data
            self.left -= 1
            self.seek(len(header))
            return super().read(size)

    cid = hash_block(block)
    raw = car_bytes(cid, [(cid, block)])
    header = encode_header(cid)
    source = Endless(raw)
    tracemalloc.start()
    try:
        assert sum(len(data) for _, data in CarReader(source)) == 33 * BLOCK_BYTES_MAX
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * BLOCK_BYTES_MAX


def test_length_alone_allocates_nothing() -> None:
    """A record that says 2 MiB and ends is refused with what was read, not with what it says."""
    tracemalloc.start()
    try:
        with pytest.raises(BadCar):
            read_all(HEADER + b"\xa4\x80\x80\x01" + LEAF.raw + b"abc")
        with pytest.raises(BadCar):
            read_all(b"\xff\xff\xff\x7f" + HEADER)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 << 10
