"""Distances of results: honest noise, cheats, and what has no distance at all."""

import numpy as np
import pytest

from prsm.node.worker.pipe import Array
from prsm.node.worker.tolerance import GAP_PPB_MAX, gap_ppb
from prsm.protocol.limits import TOLERANCE_PPB


def _rows(seed: int = 1) -> Array:
    return np.random.default_rng(seed).standard_normal((4, 3, 8)).astype(np.float32)


def test_equal_results_are_zero_apart() -> None:
    assert gap_ppb({"y": _rows()}, {"y": _rows()}) == 0


def test_the_gap_is_that_of_the_worst_row() -> None:
    """One row is moved by a thousandth of its own length, the others are not."""
    theirs = _rows().astype(np.float64)
    theirs[2] *= 1.001
    found = gap_ppb({"y": _rows().astype(np.float64)}, {"y": theirs})
    assert found == pytest.approx(1_000_000, abs=2)


def test_noise_of_another_machine_is_inside_and_fp16_is_outside() -> None:
    noisy = _rows() * np.float32(1 + 2**-22)
    rounded = _rows().astype(np.float16).astype(np.float32)
    assert 0 < gap_ppb({"y": _rows()}, {"y": noisy}) < TOLERANCE_PPB
    assert gap_ppb({"y": _rows()}, {"y": rounded}) > TOLERANCE_PPB


@pytest.mark.parametrize(
    "theirs",
    [
        {"z": _rows()},
        {"y": _rows(), "z": _rows()},
        {"y": _rows()[:3]},
        {"y": _rows().reshape(4, 24)},
        {"y": _rows().astype(np.float16)},
        {"y": np.where(_rows() > 2, np.nan, _rows()).astype(np.float32)},
        {"y": _rows() * np.float32(np.inf)},
        {},
    ],
    ids=["name", "more", "rows", "shape", "dtype", "nan", "inf", "none"],
)
def test_what_has_no_distance_is_as_far_as_can_be(theirs: dict[str, Array]) -> None:
    assert gap_ppb({"y": _rows()}, theirs) == GAP_PPB_MAX


def test_whole_numbers_are_equal_or_as_far_as_can_be() -> None:
    ids = np.arange(6, dtype=np.int64).reshape(2, 3)
    assert gap_ppb({"ids": ids}, {"ids": ids.copy()}) == 0
    assert gap_ppb({"ids": ids}, {"ids": ids + 1}) == GAP_PPB_MAX


def test_rows_of_zeros_empty_tensors_and_scalars() -> None:
    zeros = np.zeros((2, 3), np.float32)
    assert gap_ppb({"y": zeros}, {"y": zeros.copy()}) == 0
    assert gap_ppb({"y": zeros}, {"y": zeros + np.float32(1e-30)}) == GAP_PPB_MAX
    empty = np.zeros((3, 0), np.float32)
    assert gap_ppb({"y": empty}, {"y": empty.copy()}) == 0
    one = np.array(1.0, np.float32)
    assert gap_ppb({"y": one}, {"y": one * 2}) == 10**9
