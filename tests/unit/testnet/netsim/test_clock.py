"""Virtual time of many events: order, and what asks for the same millisecond."""

from prsm.testnet.netsim.clock import Wheel


def test_wheel_goes_by_time_and_then_by_who_asked_first() -> None:
    wheel = Wheel()
    seen: list[str] = []

    def first() -> None:
        seen.append(f"first at {wheel.now_ms}")
        wheel.after(0, lambda: seen.append(f"now at {wheel.now_ms}"))
        wheel.carry(2, lambda to, by, what: seen.append(f"{what} from {by} to {to}"), 1, 2, "x")

    wheel.after(5, lambda: seen.append("late"))
    wheel.after(3, first)
    wheel.after(3, lambda: seen.append("second"))
    wheel.after(9, lambda: seen.append("never"))
    wheel.run(9)
    assert seen == ["first at 3", "second", "now at 3", "late", "x from 2 to 1"]
    assert wheel.now_ms == 9
    assert wheel.events == 5
