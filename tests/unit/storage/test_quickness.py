"""When a disk is waited for on the loop."""

import pytest

from prsm.storage.quickness import QUICK_MIN, QUICK_S, REMEMBERED, STALL_S, Quickness


def after(*seconds: float) -> bool:
    quickness = Quickness()
    for each in seconds:
        quickness.note(each)
    return quickness.is_quick


def test_disk_of_which_little_is_known_is_slow() -> None:
    assert not after()
    assert not after(*[0.0] * (REMEMBERED - 1))
    assert after(*[0.0] * REMEMBERED)


@pytest.mark.parametrize("quick", range(REMEMBERED + 1))
def test_few_quick_waits_show_a_quick_disk_on_busy_cores(quick: int) -> None:
    """Whatever their order, and however many came before the latest."""
    waits = [QUICK_S] * quick + [0.05] * (REMEMBERED - quick)
    for latest in (waits, waits[::-1]):
        assert after(*[0.05] * 3, *latest) == (quick >= QUICK_MIN)


def test_disk_that_stood_still_once_is_to_show_anew_that_it_is_quick() -> None:
    quick = [QUICK_S] * REMEMBERED
    assert after(*quick, STALL_S)
    assert not after(*quick, 1.01 * STALL_S)
    assert not after(*quick, 1.01 * STALL_S, *quick[1:])
    assert after(*quick, 1.01 * STALL_S, *quick)
