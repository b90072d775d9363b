"""The file of slices: what goes in comes out, and what is no such file is said to be none."""

import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prsm.protocol.codec import encode
from prsm.protocol.errors import PrsmError
from prsm.protocol.slices import (
    LABEL,
    MAGIC,
    BadSlices,
    Slice,
    SlicesHead,
    check_dataset,
    encode_slices,
    read_layout,
)
from prsm.protocol.tensors import Dtype, Tensor, TensorHead


def tensor(name: str, rows: int, width: int = 2) -> Tensor:
    head = TensorHead(name, Dtype.U8, (rows, width))
    return Tensor(head, bytes(place % 251 for place in range(rows * width)))


def labels(*values: int) -> Tensor:
    head = TensorHead(LABEL, Dtype.I64, (len(values),))
    return Tensor(head, struct.pack(f"<{len(values)}q", *values))


@given(st.lists(st.integers(min_value=1, max_value=5), min_size=1, max_size=6))
def test_slices_are_read_back_alone_and_whole(rows: list[int]) -> None:
    batches: list[Sequence[Tensor]] = [(tensor("x", n), labels(*range(n))) for n in rows]
    raw = encode_slices(batches)
    layout = read_layout(raw)
    assert layout.head.batch_rows == tuple(rows)
    assert layout.size == len(raw)
    for index, batch in enumerate(batches):
        start, size = layout.place(index)
        assert layout.read(index, raw[start : start + size]) == tuple(batch)
    check_dataset(layout.head)


@pytest.mark.parametrize(
    ("batches", "words"),
    [
        ([], "0 slices"),
        ([[]], "needs tensors"),
        ([[Tensor(TensorHead("x", Dtype.U8, ()), b"a")]], "needs tensors"),
        ([[tensor("x", 2), tensor("y", 3)]], "its tensors are"),
        ([[tensor("x", 2), tensor("x", 2)]], "one name"),
        ([[Tensor(TensorHead("x", Dtype.U8, (2, 2)), b"abc")]], "3 bytes"),
        ([[tensor("x", 1)]] * 1_025, "1025 slices"),
    ],
)
def test_what_is_no_slice_is_not_written(batches: list[list[Tensor]], words: str) -> None:
    with pytest.raises(BadSlices, match=words):
        encode_slices(batches)


def test_other_files_and_torn_ones_are_refused() -> None:
    raw = encode_slices([[tensor("x", 1)]])
    for bad in (b"", b"PK\x03\x04 a zip of arrays", raw[:20], MAGIC + b"\xff" * 4, raw[:-2][:13]):
        with pytest.raises(PrsmError):
            read_layout(bad)
    head = TensorHead("x", Dtype.U8, (2**31 - 1, 2**31 - 1))
    huge = encode(SlicesHead((Slice(1_000_000, (head,)),)))
    with pytest.raises(BadSlices, match="rows"):
        read_layout(MAGIC + struct.pack(">I", len(huge)) + huge)


@pytest.mark.parametrize(
    "batches",
    [
        [(tensor("x", 1),)],
        [(labels(1),)],
        [(labels(1), tensor("x", 1))],
        [(tensor("x", 1), labels(1)), (tensor("z", 1), labels(1))],
        [(tensor("x", 1), Tensor(TensorHead(LABEL, Dtype.I32, (1,)), bytes(4)))],
    ],
    ids=["no labels", "no input", "labels first", "other input", "dtype"],
)
def test_slices_without_labels_are_no_dataset(batches: list[tuple[Tensor, ...]]) -> None:
    with pytest.raises(BadSlices):
        check_dataset(read_layout(encode_slices(batches)).head)
