"""What a soak's books say, of books written by hand."""

import pytest

from prsm.testnet.soak.figures import (
    MIB,
    availability,
    lag_p99_ms,
    lines_of,
    models_of,
    nodes_of,
    slope,
)
from prsm.testnet.soak.newcomers import Step
from prsm.testnet.soak.samples import Child, Sample
from prsm.testnet.soak.visitors import ANSWERED, AWAY, LATE, Visit


def sample(at_s: float, rss_mib: float, *, place: int = 0, pid: int = 1, tasks: int = 9) -> Sample:
    children = (Child(99, 3 * MIB),)
    return Sample(at_s, place, pid, int(rss_mib * MIB), children, 50, 20, 7, tasks)


def test_slope_of_a_line_is_its_own() -> None:
    """Two a second; of one moment there is none."""
    assert slope([[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]]) == pytest.approx(2)
    assert slope([[(4.0, 1.0)], []]) is None


def test_slope_of_processes_does_not_see_the_step_between_them() -> None:
    """Each grows by one a second and begins at another height; one line through all would fall."""
    first = [(float(t), 100.0 + t) for t in range(10)]
    second = [(float(t), 20.0 + t) for t in range(10, 20)]
    assert slope([first, second]) == pytest.approx(1)
    joined = slope([[*first, *second]])
    assert joined is not None
    assert joined < 0


def test_node_that_was_started_anew_is_two_lines() -> None:
    """100 MiB, killed, 50 MiB and an hour with 10 MiB more; the first minutes are left out."""
    rows = [sample(0, 30), sample(600, 100), sample(1200, 100)]
    rows += [
        sample(1300, 5, pid=2),
        *(sample(1900 + 36 * i, 50 + i / 10, pid=2) for i in range(101)),
    ]
    assert [line.seconds for line in lines_of(rows)] == [1200, 4200]
    found = nodes_of(rows, warm_s=600)[0]
    assert found["processes"] == 2
    assert (found["longest_s"], found["slope_s"]) == (4200, 3600)
    assert found["rss_mib_per_h"] == pytest.approx(10, abs=0.5)
    assert found["rss_mib"] == [5, 60]
    assert found["rss_mib_max"] == 100
    assert found["children_mib_per_h"] == 0
    assert found["fds_per_h"] == 0
    assert found["tasks"] == [9, 9]


def test_daemon_that_told_nothing_has_no_tasks() -> None:
    """Paused at every look: the kernel's figures stand, its own are missing."""
    rows = [sample(10.0 * i, 100, tasks=-1) for i in range(3)]
    found = nodes_of(rows, warm_s=0)[0]
    assert found["tasks"] == []
    assert found["tasks_per_h"] is None
    assert found["lag_p99_ms"] is None


def test_lag_is_the_bound_that_99_of_100_timers_kept() -> None:
    """Counts of a process are of its whole life: the last ones of each are added up."""
    early = Sample(0.0, 0, 1, 0, (), 0, 0, lag=((0.01, 5), (60.0, 50)))
    late = Sample(9.0, 0, 1, 0, (), 0, 0, lag=((0.01, 90), (0.1, 98), (60.0, 100)))
    lost = Sample(19.0, 0, 1, 0, (), 0, 0)
    other = Sample(29.0, 0, 2, 0, (), 0, 0, lag=((0.01, 100), (0.1, 100), (60.0, 100)))
    assert lag_p99_ms(lines_of([early, late, lost])) == 60_000
    assert lag_p99_ms(lines_of([early, late, lost, other])) == 100
    assert lag_p99_ms([]) is None


def test_availability_counts_whom_no_fault_held_down() -> None:
    """One answer of two; the third was dead."""
    rows = [
        Visit(1.0, 0, "job_list", ANSWERED, 4.0),
        Visit(2.0, 1, "job_list", LATE, 1000.0),
        Visit(3.0, 2, "job_list", AWAY, 0.3),
    ]
    found = availability(rows)
    assert (found["reads"], found["reads_answered"], found["reads_share"]) == (2, 1, 0.5)
    assert found["reads_missed"] == {"job_list: late": 1}
    assert found["reads_of_nodes_held_down"] == 1
    assert availability([])["read_ms"] == {}


def test_steps_of_models_are_counted_by_what_became_of_them() -> None:
    """Two added, one of which no node fetched."""
    rows = [
        Step(1, "add", 0, "", 1.0),
        Step(1, "pull", 2, "x", 9.0, "late"),
        Step(2, "add", 1, "", 1.0),
    ]
    assert models_of(rows) == {"worked": {"add": 2}, "failed": {"pull: late": 1}}
