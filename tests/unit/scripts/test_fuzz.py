"""Which decoder a long fuzzing run takes next; no run of libFuzzer here."""

from scripts import fuzz


def _row(executions: float, seconds: float) -> dict[str, float]:
    return {"executions": executions, "seconds": seconds}


def test_nearest_takes_what_is_done_soonest_not_what_was_run_least() -> None:
    totals = {"slow": _row(100, 50), "quick": _row(10, 0.01), "done": _row(1_000, 1)}
    assert fuzz.nearest(totals, tuple(totals), runs=1_000) == "quick"
    totals["quick"] = _row(1_000, 1)
    assert fuzz.nearest(totals, tuple(totals), runs=1_000) == "slow"


def test_nearest_takes_a_target_that_never_ran_first() -> None:
    totals = {"quick": _row(900, 0.1), "fresh": _row(0, 0)}
    assert fuzz.nearest(totals, tuple(totals), runs=1_000) == "fresh"


def test_nearest_finds_nobody_when_all_left_have_enough() -> None:
    totals = {"done": _row(1_000, 1), "failed": _row(1, 1)}
    assert fuzz.nearest(totals, ("done",), runs=1_000) is None
