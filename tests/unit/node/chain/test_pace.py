"""How large a block may be: larger while full ones are quick, smaller when a view was given up."""

from prsm.node.chain.pace import BLOCK_FIRST, BLOCK_MIN, BLOCK_MS, QUEUE_MIN, QUEUE_MS, Pace


def test_full_quick_blocks_grow_to_the_bound_of_the_network() -> None:
    """Each full block faster than `BLOCK_MS` allows an eighth more, never above the bound."""
    pace, now = Pace(2_000), 0
    for _ in range(20):
        now += BLOCK_MS - 1
        pace.note(pace.block(0), view=0, now_ms=now)
    assert pace.block(0) == 2_000


def test_slow_or_half_empty_blocks_change_nothing() -> None:
    """A block that was not full, or took long, is no reason for larger ones."""
    pace = Pace(2_000)
    for now in range(0, 10_000, 1_000):
        pace.note(BLOCK_FIRST, view=0, now_ms=now)
        pace.note(BLOCK_FIRST // 2, view=0, now_ms=now + 1)
    assert pace.block(0) == BLOCK_FIRST


def test_view_changes_shrink_blocks_to_a_floor() -> None:
    """Certificates of later views: a quarter less each time; a later view halves on top."""
    pace = Pace(2_000)
    assert [pace.block(view) for view in range(3)] == [500, 250, 200]
    for now in range(20):
        pace.note(10, view=1, now_ms=now)
    assert pace.block(0) == BLOCK_MIN


def test_small_networks_bound_wins_over_the_floor() -> None:
    """A bound below the floor is kept in every view."""
    pace = Pace(20)
    pace.note(20, view=1, now_ms=1)
    assert (pace.block(0), pace.block(9)) == (20, 20)


def test_queue_follows_the_rate_of_full_blocks() -> None:
    """So many may wait as full blocks of late would take in `QUEUE_MS`, and never too few."""
    pace, now = Pace(500), 0
    assert pace.queue == QUEUE_MIN
    for _ in range(200):
        now += 100
        pace.note(500, view=0, now_ms=now)
    assert pace.queue == 5_000 * QUEUE_MS // 1_000
