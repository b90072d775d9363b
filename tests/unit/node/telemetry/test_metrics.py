"""What a node counts, as Prometheus reads it."""

import trio
from prometheus_client.parser import text_string_to_metric_families

from prsm.node.telemetry import metrics
from prsm.node.telemetry.metrics import OTHER, SERIES_MAX, Metrics
from prsm.node.telemetry.metrictable import METRICS, PROCESS


def scraped(found: Metrics) -> dict[str, dict[tuple[str, ...], float]]:
    """Sample name -> label values in the order of the labels' names -> value."""
    samples: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(found.render().decode()):
        for sample in family.samples:
            samples.setdefault(sample.name, {})[
                tuple(text for _, text in sorted(sample.labels.items()))
            ] = sample.value
    return samples


def test_what_is_told_is_scraped() -> None:
    found = Metrics()
    found.inc("prsm_tx_total", "transfer", "done", by=3)
    found.put("prsm_consensus_height", 17)
    found.observe("prsm_loop_lag_seconds", 0.004)
    found.observe("prsm_loop_lag_seconds", 5.0)
    samples = scraped(found)
    assert samples["prsm_tx_total"] == {("done", "transfer"): 3}
    assert samples["prsm_consensus_height"] == {(): 17}
    assert samples["prsm_loop_lag_seconds_bucket"][("0.002",)] == 0
    assert samples["prsm_loop_lag_seconds_bucket"][("0.005",)] == 1
    assert samples["prsm_loop_lag_seconds_bucket"][("+Inf",)] == 2
    assert samples["prsm_loop_lag_seconds_count"] == {(): 2}
    assert samples["prsm_loop_lag_seconds_sum"] == {(): 5.004}
    assert set(PROCESS) <= samples.keys()


def test_help_and_kind_of_every_row_are_in_the_text() -> None:
    text = Metrics().render().decode()
    for row in METRICS:
        assert f"# TYPE {row.name} {row.kind.value}\n" in text
        assert f"# HELP {row.name} {row.help}" in text


def test_a_counter_is_zero_before_its_first_event_so_that_its_rate_is_known() -> None:
    assert scraped(Metrics())["prsm_consensus_equivocations_total"] == {(): 0}


def test_series_of_a_label_that_is_no_closed_set_are_bounded() -> None:
    found = Metrics()
    for number in range(SERIES_MAX + 50):
        found.inc("prsm_rpc_requests_total", f"method{number}", "0")
        found.observe("prsm_rpc_duration_seconds", 0.1, f"method{number}")
    assert found.value("prsm_rpc_requests_total", OTHER, OTHER) == 50
    assert found.value("prsm_rpc_duration_seconds", OTHER) == 50


def test_rooms_are_asked_before_each_reading() -> None:
    found = Metrics()
    sizes = iter((1, 2))
    found.on_read(lambda numbers: numbers.put("prsm_mempool_size", next(sizes)))
    assert scraped(found)["prsm_mempool_size"] == {(): 1}
    assert scraped(found)["prsm_mempool_size"] == {(): 2}


async def test_two_nodes_in_one_process_count_apart() -> None:
    async def node(mine: Metrics, times: int) -> None:
        metrics.begin(mine)
        async with trio.open_nursery() as rooms:
            for _ in range(times):
                rooms.start_soon(room)

    async def room() -> None:
        await trio.lowlevel.checkpoint()
        metrics.inc("prsm_jobs_total", "done")
        metrics.observe("prsm_job_duration_seconds", 1.0, "running")

    first, second = Metrics(), Metrics()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node, first, 2)
        nursery.start_soon(node, second, 3)
    assert first.value("prsm_jobs_total", "done") == 2
    assert second.value("prsm_job_duration_seconds", "running") == 3
    assert metrics.here() is None
    metrics.inc("prsm_jobs_total", "done")  # a part that runs alone counts nowhere
