"""Scores: counted alike from logits and classes, bound by a root, with Wilson's interval."""

import math
import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prsm.protocol.scores import (
    CELLS_MAX,
    MILLION,
    NotScorable,
    ScoreRow,
    count_correct,
    score_root,
    wilson,
)
from prsm.protocol.tensors import Dtype, Tensor, TensorHead

CID = b"\x01\x55\x12\x20" + bytes(32)


def labels(*values: int) -> Tensor:
    head = TensorHead("label", Dtype.I64, (len(values),))
    return Tensor(head, struct.pack(f"<{len(values)}q", *values))


def logits(*rows: Sequence[float], dtype: Dtype = Dtype.F32, form: str = "f") -> Tensor:
    flat = [value for row in rows for value in row]
    head = TensorHead("scores", dtype, (len(rows), len(rows[0])))
    return Tensor(head, struct.pack(f"<{len(flat)}{form}", *flat))


def test_the_highest_score_is_the_class_and_ties_go_to_the_lower_one() -> None:
    output = logits([0, 2, 1], [3, 3, 0], [0, 0, 0], [-3, -1, -2])
    assert count_correct(output, labels(1, 0, 0, 1)) == 4
    assert count_correct(output, labels(2, 1, 1, 0)) == 0
    assert count_correct(logits([0, 2], dtype=Dtype.F16, form="e"), labels(1)) == 1
    assert count_correct(logits([7, 2], dtype=Dtype.U8, form="B"), labels(0)) == 1


def test_classes_are_compared_as_they_are() -> None:
    head = TensorHead("class", Dtype.I64, (3,))
    assert count_correct(Tensor(head, struct.pack("<3q", 4, 5, -1)), labels(4, 4, -1)) == 2


@pytest.mark.parametrize(
    "head",
    [
        TensorHead("y", Dtype.F32, (2,)),  # one number a row is no class
        TensorHead("y", Dtype.F32, (2, 2, 2)),
        TensorHead("y", Dtype.F32, (2, 0)),
        TensorHead("y", Dtype.F32, (3, 2)),  # other rows
        TensorHead("y", Dtype.BOOL, (2, 2)),
        TensorHead("y", Dtype.F32, ()),
        TensorHead("y", Dtype.F32, (2, CELLS_MAX)),
    ],
)
def test_outputs_without_classes_are_refused(head: TensorHead) -> None:
    data = bytes(head.nbytes if head.nbytes < 100 else 0)
    with pytest.raises(NotScorable):
        count_correct(Tensor(head, data), labels(0, 1))


def test_the_root_binds_every_part_of_the_score() -> None:
    row = ScoreRow(CID, 1, 10, 9)
    roots = {
        score_root(bytes(32), row),
        score_root(b"x" * 32, row),
        score_root(bytes(32), ScoreRow(CID, 2, 10, 9)),
        score_root(bytes(32), ScoreRow(CID, 1, 11, 9)),
        score_root(bytes(32), ScoreRow(CID, 1, 10, 8)),
        score_root(bytes(32), ScoreRow(CID[:-1] + b"x", 1, 10, 9)),
    }
    assert len(roots) == 6


def _wilson(correct: int, total: int) -> tuple[float, float]:
    """The textbook's formula in floats."""
    z, p = 1.959964, correct / total
    middle = p + z * z / (2 * total)
    spread = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    return (middle - spread) / (1 + z * z / total), (middle + spread) / (1 + z * z / total)


@given(st.integers(min_value=1, max_value=10**7), st.data())
def test_the_interval_is_wilsons_to_a_millionth(total: int, data: st.DataObject) -> None:
    correct = data.draw(st.integers(min_value=0, max_value=total))
    low, high = wilson(correct, total)
    assert 0 <= low <= correct * MILLION // total <= high <= MILLION
    for found, exact in zip((low, high), _wilson(correct, total), strict=True):
        assert abs(found - exact * MILLION) <= 3


def test_known_intervals() -> None:
    assert wilson(0, 0) == (0, MILLION)
    assert wilson(349, 360) == (946_121, 982_855)
