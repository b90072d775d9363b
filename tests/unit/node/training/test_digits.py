"""The classifier of digits; needs the extra `training`."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from prsm.node.worker.scan import Policy, scan
from prsm.protocol.slices import check_dataset, read_layout

if TYPE_CHECKING:
    from prsm.node.training import digits  # noqa: TC004 - see _sklearn

pytestmark = pytest.mark.long


@pytest.fixture(scope="module", autouse=True)
def _sklearn() -> None:
    """Import scikit-learn when a test is run, not when it is found: that alone takes seconds."""
    pytest.importorskip("sklearn", reason="the extra `training` is missing")
    globals()["digits"] = import_module("prsm.node.training.digits")


def test_recipe_names_nearly_all_held_out_digits_and_writes_them(tmp_path: Path) -> None:
    lines: list[str] = []
    built = digits.write(tmp_path, say=lines.append)
    assert built.rows == 450
    assert built.accuracy > 0.96
    scan(built.model.read_bytes(), Policy())
    raw = built.dataset.read_bytes()
    layout = read_layout(raw)
    check_dataset(layout.head)
    assert (layout.head.rows, layout.size) == (450, len(raw))


def test_held_out_pictures_are_not_learned_from() -> None:
    known, held_out = digits.load()
    assert (len(known.labels), len(held_out.labels)) == (1347, 450)
    again, _ = digits.load()
    assert np.array_equal(known.pixels, again.pixels)
