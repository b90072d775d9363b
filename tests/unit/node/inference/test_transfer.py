"""Chunks: what is cut comes together again, and nothing else does."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prsm.node.inference.transfer import (
    Assembly,
    BatchTooLarge,
    bytes_due,
    check_heads,
    cut,
    row_axes,
)
from prsm.protocol.errors import WireError
from prsm.protocol.limits import TENSOR_CHUNK_BYTES_MAX
from prsm.protocol.messages.models import TensorSpec
from prsm.protocol.messages.pipe import InputMismatch
from prsm.protocol.messages.work import BATCH_BYTES_MAX
from prsm.protocol.tensors import Dtype, Tensor, TensorHead

CHUNK = TENSOR_CHUNK_BYTES_MAX
SPECS = (
    TensorSpec("x", Dtype.F32, ("batch", "tokens", 3)),
    TensorSpec("mask", Dtype.U8, ("batch", "tokens")),
)


def blob(name: str, size: int) -> Tensor:
    pattern = bytes(range(251)) * (size // 251 + 1)
    return Tensor(TensorHead(name, Dtype.U8, (size,)), pattern[:size])


def heads(rows: int = 4, tokens: int = 8) -> tuple[TensorHead, TensorHead]:
    return (
        TensorHead("x", Dtype.F32, (rows, tokens, 3)),
        TensorHead("mask", Dtype.U8, (rows, tokens)),
    )


sizes = st.sampled_from([0, 1, 7, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 5])


@given(st.lists(sizes, min_size=1, max_size=4))
def test_what_is_cut_comes_together(found: list[int]) -> None:
    tensors = tuple(blob(f"t{i}", size) for i, size in enumerate(found))
    chunks = list(cut(tensors))
    assert [c.chunk for c in chunks] == list(range(chunks[0].chunks))
    assert all(len(c.data) == CHUNK for c, _ in pairwise(chunks))
    assert all(not c.heads for c in chunks[1:])
    assembly = Assembly(chunks[0].heads, chunks[0].chunks)
    answers = [assembly.add(c.chunk, c.data) for c in chunks]
    assert answers[-1] == tensors
    assert not any(answers[:-1])


def test_wrong_count_order_or_size_of_chunks_is_refused() -> None:
    chunks = list(cut((blob("t", 2 * CHUNK + 1),)))
    with pytest.raises(WireError, match="2 chunks for 524289 bytes, 3 are due"):
        Assembly(chunks[0].heads, 2)
    assembly = Assembly(chunks[0].heads, 3)
    with pytest.raises(WireError, match="chunk 1, 0 is due"):
        assembly.add(1, chunks[1].data)
    with pytest.raises(WireError, match="262144 are due"):
        assembly.add(0, chunks[0].data[:-1])
    assembly.add(0, chunks[0].data)
    with pytest.raises(WireError, match="chunk 0, 1 is due"):
        assembly.add(0, chunks[0].data)


def test_too_many_bytes_are_refused_before_memory_is_taken() -> None:
    huge = TensorHead("t", Dtype.U8, (2**31 - 1, 2**31 - 1))
    with pytest.raises(BatchTooLarge):
        Assembly((huge,), 1)


def test_io_table_holds() -> None:
    axes = row_axes(SPECS, 4)
    check_heads(heads(), SPECS, axes=axes)
    assert axes == {"batch": 4, "tokens": 8}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (heads(rows=5), "batch is 4"),
        (heads()[:1], "the io table says"),
        (heads()[::-1], "the io table says"),
        ((heads()[0], TensorHead("mask", Dtype.U8, (4, 9))), "tokens is 8"),
        ((heads()[0], TensorHead("mask", Dtype.I64, (4, 8))), "is I64, not U8"),
        ((TensorHead("x", Dtype.F32, (4, 8)), heads()[1]), "has shape"),
        ((TensorHead("x", Dtype.F32, (4, 8, 4)), heads()[1]), "3 is 3"),
    ],
)
def test_io_table_refuses(wrong: tuple[TensorHead, ...], words: str) -> None:
    with pytest.raises(InputMismatch, match=words):
        check_heads(wrong, SPECS, axes=row_axes(SPECS, 4))


def test_bytes_due_are_those_of_the_heads_or_all_a_batch_may_have() -> None:
    known = {"batch": 4, "tokens": 8}
    assert bytes_due(SPECS, known) == sum(head.nbytes for head in heads())
    assert bytes_due(SPECS, {"batch": 4}) == BATCH_BYTES_MAX
    assert bytes_due(SPECS, known | {"tokens": 2**30}) == BATCH_BYTES_MAX
    assert bytes_due((), {}) == 0
