"""The batch plan: rows into micro-batches and back."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prsm.node.inference.batches import (
    BatchPlan,
    RowsDiffer,
    check_inputs,
    restore,
    split_rows,
)
from prsm.protocol.messages.models import TensorSpec
from prsm.protocol.messages.pipe import InputMismatch
from prsm.protocol.tensors import Dtype, Tensor, TensorHead

SPECS = (TensorSpec("x", Dtype.I32, ("batch", 2)), TensorSpec("mask", Dtype.U8, ("batch",)))


def inputs(rows: int) -> tuple[Tensor, Tensor]:
    x = b"".join(i.to_bytes(8, "little") for i in range(rows))
    return (
        Tensor(TensorHead("x", Dtype.I32, (rows, 2)), x),
        Tensor(TensorHead("mask", Dtype.U8, (rows,)), bytes(i % 256 for i in range(rows))),
    )


@given(st.integers(1, 40), st.integers(1, 9))
def test_rows_come_back_in_their_order(rows: int, size: int) -> None:
    plan = split_rows(inputs(rows), size)
    assert sum(plan.counts) == rows
    assert set(plan.counts[:-1]) <= {size}
    assert restore(plan, plan.batches) == inputs(rows)


def test_rows_that_were_sorted_come_back_in_their_order() -> None:
    first, second = split_rows(inputs(2), 1).batches
    plan = BatchPlan(((1,), (0,)), (second, first))
    assert restore(plan, plan.batches) == inputs(2)


def test_rows_of_different_shapes_are_no_tensor() -> None:
    parts = [(Tensor(TensorHead("h", Dtype.U8, (1, size)), bytes(size)),) for size in (2, 3)]
    plan = BatchPlan(((0,), (1,)), tuple(parts))
    with pytest.raises(RowsDiffer):
        restore(plan, parts)


@pytest.mark.parametrize(
    "wrong",
    [
        (),
        inputs(0),
        (inputs(3)[0], inputs(2)[1]),
        (Tensor(TensorHead("x", Dtype.I32, ()), b"1234"),),
    ],
    ids=["nothing", "no rows", "uneven", "scalar"],
)
def test_inputs_without_common_rows_are_refused(wrong: tuple[Tensor, ...]) -> None:
    with pytest.raises(InputMismatch):
        split_rows(wrong, 4)


def test_inputs_are_ordered_by_the_io_table() -> None:
    plan = split_rows(inputs(4)[::-1], 3)
    names = [[t.head.name for t in batch] for batch in check_inputs(plan, SPECS).batches]
    assert names == [["x", "mask"], ["x", "mask"]]


def test_wrong_name_dtype_or_length_is_named() -> None:
    x, mask = inputs(2)
    short = msgspec.structs.replace(x, data=x.data[:-8])
    renamed = Tensor(TensorHead("z", Dtype.U8, (2,)), mask.data)
    recast = Tensor(TensorHead("mask", Dtype.BOOL, (2,)), mask.data)
    for wrong, words in (
        ((x,), "the model takes"),
        ((x, renamed), "the model takes"),
        ((x, recast), "is BOOL, not U8"),
        ((short, mask), "needs 16"),
    ):
        with pytest.raises(InputMismatch, match=words):
            check_inputs(split_rows(wrong, 4), SPECS)
