"""Tensors in and out of JSON."""

from array import array

import pytest

from prsm.node.rpc.methods.work import TensorText
from prsm.node.rpc.sdk.tensors import raw, tensor, view


def test_values_come_back_as_they_went_in() -> None:
    one = tensor("x", memoryview(array("f", [1.5, -2.0, 0.0, 4.0])).cast("B").cast("f", (2, 2)))
    assert (one.dtype, one.shape) == ("f32", (2, 2))
    assert str(view(one).tolist()) == "[[1.5, -2.0], [0.0, 4.0]]"
    assert tensor("x", array("q", [7])).dtype == "i64"
    assert tensor("x", b"\x01\x02").dtype == "u8"


def test_a_scalar_and_an_empty_tensor_have_a_view() -> None:
    assert view(TensorText("x", "i32", (), "0x07000000")).tolist() == [7]
    assert view(TensorText("x", "f32", (0, 3), "0x")).tolist() == []


def test_what_has_no_form_is_refused() -> None:
    half = TensorText("x", "f16", (1,), "0x003c")
    with pytest.raises(ValueError, match="float16"):
        view(half)
    assert raw(half) == b"\x00\x3c"
    with pytest.raises(ValueError, match="is no dtype"):
        tensor("x", array("d", [1.0]))
    with pytest.raises(ValueError, match="C-contiguous"):
        tensor("x", memoryview(b"abcd")[::2])
    with pytest.raises(TypeError):
        tensor("x", 3)
