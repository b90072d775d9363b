"""One job is one trace over all its nodes: a requester and three workers on the memory network."""

import trio
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext
from trio.testing import MockClock

from prsm.node.inference.job import JobRequest, JobState
from prsm.node.telemetry import traces
from prsm.node.telemetry.traces import Traces
from tests.tools.work import MODEL, Cluster, given_rows, make_cluster

TRACE = bytes(range(16))
STAGES = 2


async def test_a_job_is_one_trace_over_its_nodes(
    nursery: trio.Nursery,
    autojump_clock: MockClock,  # noqa: ARG001 - it moves the time
) -> None:
    """Every node has a collector of its own; together they hold one tree without loose ends."""
    cluster = make_cluster()
    kept = await start(cluster, nursery)
    jobs = cluster.requester.jobs
    with traces.first("rpc job_submit", TRACE):
        job = jobs.submit(JobRequest(MODEL, inputs=given_rows(12), stages=STAGES))
    with trio.fail_after(2000):
        assert (await jobs.wait(job)).state is JobState.DONE
    for _ in range(20):  # a worker's part ends when the requester's goodbye has come
        await trio.sleep(1)
    nursery.cancel_scope.cancel()
    spans = [span for exporter in kept for span in exporter.get_finished_spans()]
    assert {context(span).trace_id for span in spans} == {int.from_bytes(TRACE, "big")}
    by_id = {context(span).span_id: span for span in spans}
    assert len(by_id) == len(spans)
    (root,) = [span for span in spans if span.parent is None]
    assert root.name == "rpc job_submit"
    above = {
        (span.name, by_id[span.parent.span_id].name) for span in spans if span.parent is not None
    }
    assert above == {
        ("job", "rpc job_submit"),
        *(("plan", "job"), ("lock", "job"), ("verify", "job"), ("settle", "job")),
        ("shard", "job"),
        ("work", "shard"),
    }
    parts = [span for span in spans if span.name == "work"]
    assert len(parts) == 2 * STAGES, "two workers do each stage"
    ours = {context(span).span_id for span in kept[0].get_finished_spans()}
    for part in parts:
        assert part.parent is not None
        assert context(part).span_id not in ours, "recorded by the worker"
        assert part.parent.span_id in ours, "below a span of the requester"


async def start(cluster: Cluster, nursery: trio.Nursery) -> list[InMemorySpanExporter]:
    """Start the nodes, each with a collector; the test's own task stands at the requester."""
    kept = [InMemorySpanExporter() for _ in cluster.nodes]
    opened = [Traces(each, node="node", version="1", is_batched=False) for each in kept]
    await nursery.start(cluster.world.run)
    for node, own in zip(cluster.nodes, opened, strict=True):
        traces.begin(own)
        await nursery.start(node.run)
    for one, own in zip(cluster.nodes, opened, strict=True):
        traces.begin(own)
        for other in cluster.nodes[: one.index]:
            await one.network.connect(cluster.hub.address(other.network.peer_id))
    traces.begin(opened[0])
    return kept


def context(span: ReadableSpan) -> SpanContext:
    found = span.get_span_context()
    assert isinstance(found, SpanContext)
    return found
