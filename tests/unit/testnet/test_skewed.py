"""The clock of a node that a test sets wrong."""

from pathlib import Path

import pytest

from prsm.node.clock import TrioClock
from prsm.node.home import Home
from prsm.testnet.skewed import SkewedClock, set_skew


@pytest.mark.parametrize("skew_ms", [3_600_000, -3_600_000, 0])
async def test_wall_clock_is_wrong_by_what_was_set_while_it_runs(
    tmp_path: Path, skew_ms: int
) -> None:
    """Both ways, at once, and only the wall clock."""
    home = Home(tmp_path)
    clock, right = SkewedClock(home), TrioClock()
    assert abs(clock.wall_ms() - right.wall_ms()) < 1_000
    set_skew(home, skew_ms)
    assert abs(clock.wall_ms() - right.wall_ms() - skew_ms) < 1_000
    assert abs(clock.monotonic_ms() - right.monotonic_ms()) < 1_000


def test_skew_is_kept_for_a_start(tmp_path: Path) -> None:
    """Set before the node runs, and again found by the next one."""
    home = Home(tmp_path)
    set_skew(home, 7_200_000)
    for _ in range(2):
        assert SkewedClock(home).wall_ms() - TrioClock().wall_ms() > 7_100_000
