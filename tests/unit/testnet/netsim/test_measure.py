"""Figures of deliveries: who counts, and what a missing record does to a percentile."""

from prsm.testnet.netsim.measure import Deliveries


def test_missing_records_count_as_waits_without_end() -> None:
    deliveries = Deliveries([0, 1, 2, 3], 5)
    record = deliveries.published(0, 1_000)
    deliveries.arrived(1, record, 1_100)
    deliveries.arrived(1, record, 9_000)  # a copy
    deliveries.arrived(2, record, 3_500)
    deliveries.arrived(4, record, 1_001)  # not counted: no honest node
    figures = deliveries.figures()
    assert figures.expected == 3
    assert figures.delivered == round(2 / 3, 6)
    assert figures.within_1s == round(1 / 3, 6)
    assert figures.within_6s == round(2 / 3, 6)
    assert figures.p50_ms == 2_500
    assert figures.p99_ms is None


def test_node_that_was_away_counts_from_its_return() -> None:
    deliveries = Deliveries([0, 1, 2, 3], 4)
    deliveries.away(1, 2_000, 8_000)
    deliveries.away(2, 2_000, 8_000)
    deliveries.away(3, 20_000, 30_000)
    record = deliveries.published(0, 1_900)
    deliveries.arrived(1, record, 1_950)  # before it went: steady
    deliveries.arrived(2, record, 8_400)
    figures = deliveries.figures()
    assert (figures.expected, figures.away_expected) == (2, 1)
    assert figures.delivered == 0.5  # the third had six seconds and more
    assert figures.away_delivered == 1.0
    assert figures.away_p99_ms == 400


def test_no_records_are_all_delivered() -> None:
    figures = Deliveries([0, 1], 2).figures()
    assert (figures.expected, figures.delivered, figures.p99_ms) == (0, 1.0, None)
