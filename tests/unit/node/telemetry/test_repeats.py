"""Lines that repeat: how many pass, what is counted, and when it is told."""

from prsm.node.telemetry.repeats import ALIKE_MAX, KIND_MAX, KNOWN_MAX, WINDOW_S, Repeats, Told

KIND = ("warning", "net", "dial failed")


def alike(name: str) -> tuple[str, ...]:
    return (*KIND, f"peer={name}")


def test_alike_lines_pass_a_few_times_in_a_window() -> None:
    repeats = Repeats()
    passed = [repeats.passes(KIND, alike("A"), float(now)) for now in range(40)]
    assert passed == [True] * ALIKE_MAX + [False] * (40 - ALIKE_MAX)
    assert repeats.told(WINDOW_S - 1) == []
    assert repeats.told(WINDOW_S) == [Told(alike("A"), 40 - ALIKE_MAX, WINDOW_S)]
    assert repeats.told(WINDOW_S + 1) == [], "told once"
    assert repeats.passes(KIND, alike("A"), WINDOW_S + 2), "a new window"


def test_an_event_of_many_peers_is_bounded_too() -> None:
    repeats = Repeats()
    passed = [repeats.passes(KIND, alike(str(number)), 0.0) for number in range(KIND_MAX + 50)]
    assert sum(passed) == KIND_MAX
    assert repeats.rest(1.0) == [Told(KIND, 50, 1.0)]


def test_other_events_are_not_held_back_by_a_flood() -> None:
    repeats = Repeats()
    for _ in range(1_000):
        repeats.passes(KIND, alike("A"), 0.0)
    assert repeats.passes(("error", "driver", "disk"), ("error", "driver", "disk"), 0.0)


def test_what_is_remembered_is_bounded_and_nothing_held_back_is_lost() -> None:
    repeats = Repeats()
    for _ in range(ALIKE_MAX + 5):
        repeats.passes(KIND, alike("A"), 0.0)
    for number in range(2 * KNOWN_MAX):
        kind = ("info", "room", str(number))
        assert repeats.passes(kind, kind, 1.0)
    assert Told(alike("A"), 5, 1.0) in repeats.told(1.0)
    assert len(repeats._seen) <= KNOWN_MAX
