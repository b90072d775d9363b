"""Tensors on the wire: sizes known before memory is taken."""

import pytest

from prsm.protocol.codec import decode, encode
from prsm.protocol.errors import WireError
from prsm.protocol.limits import TENSOR_BYTES_MAX, TENSOR_DIM_MAX, TENSOR_RANK_MAX
from prsm.protocol.tensors import ITEM_BYTES, ROWS_EMPTY_MAX, Dtype, TensorHead, split_tail

MASK = TensorHead("attention_mask", Dtype.I64, (2, 3))
HIDDEN = TensorHead("hidden", Dtype.F32, (2, 1, 4))


def test_nbytes_is_the_product_of_the_shape_and_the_item() -> None:
    assert MASK.nbytes == 48
    assert HIDDEN.nbytes == 32
    assert TensorHead("scalar", Dtype.F16, ()).nbytes == 2
    assert TensorHead("empty", Dtype.F32, (0, 7)).nbytes == 0


def test_every_dtype_has_an_item_size() -> None:
    assert set(ITEM_BYTES) == set(Dtype)


def test_split_tail_cuts_in_the_order_of_the_heads() -> None:
    tail = bytes(range(80))
    first, second = split_tail((MASK, HIDDEN), tail)
    assert (first.head, first.data) == (MASK, tail[:48])
    assert (second.head, second.data) == (HIDDEN, tail[48:])


def test_split_tail_copies_out_of_a_memoryview() -> None:
    (tensor,) = split_tail((HIDDEN,), memoryview(bytes(32)))
    assert isinstance(tensor.data, bytes)


def test_split_tail_of_nothing_is_nothing() -> None:
    assert split_tail((), b"") == ()


@pytest.mark.parametrize("size", [0, 79, 81])
def test_split_tail_refuses_another_length_than_announced(size: int) -> None:
    with pytest.raises(WireError, match=f"tail of {size} bytes, the heads announce 80"):
        split_tail((MASK, HIDDEN), bytes(size))


def test_split_tail_refuses_a_tensor_over_the_limit_before_reading() -> None:
    huge = TensorHead("huge", Dtype.F32, (TENSOR_DIM_MAX,) * TENSOR_RANK_MAX)
    with pytest.raises(WireError, match=f"at most {TENSOR_BYTES_MAX}"):
        split_tail((huge,), b"")


@pytest.mark.parametrize(
    "value",
    [
        ("", Dtype.F32, (1,)),
        ("x" * 257, Dtype.F32, (1,)),
        ("x", 16, (1,)),  # bfloat16 is no dtype of the wire
        ("x", Dtype.F32, (-1,)),
        ("x", Dtype.F32, (TENSOR_DIM_MAX + 1,)),
        ("x", Dtype.F32, (1,) * (TENSOR_RANK_MAX + 1)),
        ("x", Dtype.F32, ("batch",)),
    ],
)
def test_tensor_head_refuses_what_no_tensor_has(value: tuple[object, ...]) -> None:
    with pytest.raises(WireError, match="no TensorHead"):
        decode(encode(value), TensorHead, size_max=1000)


def test_tensor_head_survives_the_wire() -> None:
    assert decode(encode(MASK), TensorHead, size_max=100) == MASK


def test_rows_without_bytes_are_bounded() -> None:
    """Somebody hashes every row: a shape of 2^31 rows of nothing costs its sender no byte."""
    split_tail((TensorHead("h", Dtype.F32, (ROWS_EMPTY_MAX, 0)),), b"")
    with pytest.raises(WireError, match="rows without a byte"):
        split_tail((TensorHead("h", Dtype.F32, (ROWS_EMPTY_MAX + 1, 0)),), b"")
