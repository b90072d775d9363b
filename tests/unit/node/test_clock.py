"""The clock port on trio."""

import time

import trio
from trio.testing import MockClock

from prsm.node.clock import TrioClock, utc_text


def test_monotonic_ms_follows_the_clock_of_the_loop() -> None:
    async def main() -> int:
        clock = TrioClock()
        before = clock.monotonic_ms()
        await trio.sleep(12.5)
        return clock.monotonic_ms() - before

    assert trio.run(main, clock=MockClock(autojump_threshold=0)) == 12_500


def test_wall_ms_is_utc() -> None:
    assert abs(TrioClock().wall_ms() - time.time_ns() // 1_000_000) < 2000


def test_utc_text_is_rfc_3339() -> None:
    assert utc_text(0) == "1970-01-01T00:00:00.000Z"
    assert utc_text(1_700_000_000_123) == "2023-11-14T22:13:20.123Z"


def test_utc_text_of_a_time_no_calendar_has_is_its_last() -> None:
    """Peers write down what they like; RFC 3339 ends with the year 9999."""
    last = "9999-12-31T23:59:59.999Z"
    assert utc_text(253_402_300_799_998) == "9999-12-31T23:59:59.998Z"
    assert {utc_text(253_402_300_799_999), utc_text(253_402_300_800_000), utc_text(2**63)} == {last}
