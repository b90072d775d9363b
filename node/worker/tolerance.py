"""How far two results are apart, where classes differ and bits cannot decide.

Knows arrays. Must not know who computed them, nor what distance is allowed: that is
`protocol.limits.TOLERANCE_PPB`. Source: docs/spec/work.md, "Audits".
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from prsm.node.worker.pipe import Array

GAP_PPB_MAX: Final = 2**31 - 1  # no relation at all: other names, shapes, dtypes, NaN
_PPB: Final = 1_000_000_000
_Floats = npt.NDArray[np.floating[Any]]


def gap_ppb(ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> int:
    """Return the largest distance of a row, in parts per billion, rounded up.

    The distance of a row (first axis) is its relative L2: |theirs - ours| / |ours|, in float64.
    Whole numbers and booleans have no distance: they are equal, or as far as can be.

    Args:
        ours: the honest side.
        theirs: a stranger's; may hold anything.
    """
    if list(ours) != list(theirs):
        return GAP_PPB_MAX
    return max((_gap(ours[name], theirs[name]) for name in ours), default=0)


def _gap(ours: Array, theirs: Array) -> int:
    if ours.dtype != theirs.dtype or ours.shape != theirs.shape:
        return GAP_PPB_MAX
    if ours.dtype.kind != "f":
        return 0 if np.array_equal(ours, theirs) else GAP_PPB_MAX
    rows = ours.shape[0] if ours.ndim else 1
    return max(
        (_row_gap(a, b) for a, b in zip(_rows(ours, rows), _rows(theirs, rows), strict=True)),
        default=0,
    )


def _rows(array: Array, rows: int) -> Array:
    return array.reshape(rows, -1) if array.size else array.reshape(0, 0)


def _row_gap(ours: _Floats, theirs: _Floats) -> int:
    if not np.isfinite(theirs).all():
        return GAP_PPB_MAX
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    apart = float(np.linalg.norm(theirs - ours))
    if apart == 0.0:
        return 0
    size = float(np.linalg.norm(ours))
    if size == 0.0:
        return GAP_PPB_MAX
    return int(min(GAP_PPB_MAX, np.ceil(apart / size * _PPB)))
