"""Which blocks count as a minority's: none that was under way, every one after that."""

from prsm.testnet.minority import LATE_SECONDS, SETTLE_SECONDS, Minority

STEP = 0.1


def watch(heights: list[int], *, eased: dict[int, int] | None = None) -> int:
    """Blocks counted at a node that is asked every tenth of a second."""
    found, ended = Minority(0.0), 0
    for number, height in enumerate(heights):
        ended = (eased or {}).get(number, ended)
        found.look({0: height}, ended, STEP * number)
    return found.commits


def test_what_was_under_way_arrives_by_right() -> None:
    """A quorum had voted before the cut: two blocks come within its first half second."""
    assert watch([7, 7, 8, 8, 9, *[9] * 20]) == 0


def test_block_after_a_quiet_while_counts() -> None:
    quiet = int(SETTLE_SECONDS / STEP) + 1
    assert watch([*[7] * quiet, 8]) == 1
    assert watch([*[7] * quiet, 8, 8, 9, 11, 11]) == 4


def test_blocks_without_end_are_not_under_way() -> None:
    """Each comes before half a second was quiet: after two seconds they count all the same."""
    late = int(LATE_SECONDS / STEP)
    assert watch(list(range(late + 11))) >= 10


def test_what_another_fault_held_up_arrives_by_right() -> None:
    """A second partition ends before this one: votes of before both were on its lines."""
    quiet = [7] * 23
    assert watch([*quiet, 8, 8], eased={23: 1}) == 0
    assert watch([*quiet, 8, 8], eased={24: 1}) == 1
    assert watch([*quiet, 8, *[8] * 6, 9], eased={23: 1}) == 1


def test_catching_up_among_the_cut_off_is_no_new_block() -> None:
    found = Minority(0.0)
    for number in range(10):
        found.look({0: 9, 1: 7}, 0, STEP * number)
    found.look({0: 9, 1: 9}, 0, 1.0)
    assert found.commits == 0
    found.look({1: 10}, 0, 1.1)  # the other one answers no more
    found.look({0: 10, 1: 10}, 0, 1.2)
    assert found.commits == 1


def test_who_answers_for_the_first_time_may_have_been_higher_before() -> None:
    found = Minority(0.0)
    for number in range(10):
        found.look({0: 7}, 0, STEP * number)
    found.look({0: 7, 1: 9}, 0, 1.0)
    assert found.commits == 0
    found.look({0: 7, 1: 10}, 0, 1.1)
    assert found.commits == 1
