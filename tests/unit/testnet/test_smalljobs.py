"""The market of small jobs: what must hold holds, and the report would say if it did not."""

import pytest

from prsm.testnet.smalljobs import Count, Market, Report, Terms


@pytest.mark.slow
def test_small_jobs_with_liars_pay_nothing_wrong() -> None:
    """A small run of scripts/small_jobs.py; its whole run is in docs/testing.md."""
    report = Market(Terms(jobs=150, seed=4, percents=(5, 20, 33), alone=30)).run()
    assert report.broken() == []
    compared, alone = report.compared.values(), report.alone.values()
    assert sum(count.jobs for count in (*compared, *alone)) == 150
    assert sum(count.lies for count in compared) > 20
    assert sum(count.paid for count in compared) > 80
    assert sum(count.caught for count in alone) > 0
    assert sum(count.slashed for count in alone) >= sum(count.lied_for for count in alone)


def test_report_names_each_thing_that_must_not_be() -> None:
    report = Report(
        compared={1: Count(wrong_paid=2)},
        alone={1: Count(honest_unpaid=3, lied_for=9, slashed=4)},
        honest_faults=1,
        honest_slashed=1,
        missing=7,
    )
    assert [what.split()[0] for what in report.broken()] == ["2", "3", "1", "1", "7", "liars"]
