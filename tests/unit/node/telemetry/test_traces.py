"""Spans: nothing where nobody collects, one tree where somebody does, ids that both ends know."""

import sys
from collections.abc import Iterator

import pytest
import trio
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from prsm.node.telemetry import traces
from prsm.node.telemetry.traces import Traces
from prsm.protocol.errors import Unsupported

TRACE = bytes(range(1, 17))


@pytest.fixture
def kept() -> Iterator[InMemorySpanExporter]:
    """Where the spans of a test go."""
    exporter = InMemorySpanExporter()
    opened = Traces(exporter, node="lab", version="1", is_batched=False)
    token = traces._HERE.set(traces._Spot(opened))
    yield exporter
    traces._HERE.reset(token)
    opened.close()


def tree(exporter: InMemorySpanExporter) -> dict[str, str | None]:
    """Name of each span -> name of the one above it."""
    spans: tuple[ReadableSpan, ...] = exporter.get_finished_spans()
    names = {span.context.span_id: span.name for span in spans if span.context}
    return {span.name: names.get(span.parent.span_id) if span.parent else None for span in spans}


def test_where_nobody_collects_nothing_is_carried() -> None:
    with traces.first("rpc"), traces.span("job") as mark, traces.arrived(TRACE):
        mark.set(rows=7)
        assert traces.carried() == b""


def test_steps_hang_below_the_call_that_began_them(kept: InMemorySpanExporter) -> None:
    assert traces.carried() == b""
    with traces.span("background"):
        pass
    with traces.first("rpc job_submit", TRACE, rpc__system="jsonrpc"):
        assert traces.carried() == TRACE
        with traces.span("job") as job:
            job.set(prsm__rows=240)
            with traces.span("plan"):
                pass
        with traces.span("other"):
            pass
    assert traces.carried() == b""
    assert tree(kept) == {"plan": "job", "job": "rpc job_submit", "other": "rpc job_submit"} | {
        "rpc job_submit": None
    }
    spans = {span.name: span for span in kept.get_finished_spans()}
    assert {span.context.trace_id for span in spans.values() if span.context} == {
        int.from_bytes(TRACE, "big")
    }
    assert dict(spans["job"].attributes or {}) == {"prsm.rows": 240}
    assert dict(spans["rpc job_submit"].attributes or {}) == {"rpc.system": "jsonrpc"}
    assert spans["job"].resource.attributes["service.instance.id"] == "lab"


async def test_tasks_stay_in_the_trace_of_who_started_them(kept: InMemorySpanExporter) -> None:
    async def step(name: str) -> None:
        await trio.lowlevel.checkpoint()
        with traces.span(name):
            await trio.to_thread.run_sync(traces.carried)

    async with trio.open_nursery() as nursery:
        with traces.first("one"):
            nursery.start_soon(step, "of one")
        with traces.first("two"):
            nursery.start_soon(step, "of two")
    assert tree(kept) == {"of one": "one", "of two": "two", "one": None, "two": None}


def test_a_workers_span_hangs_below_one_of_another_node(kept: InMemorySpanExporter) -> None:
    """The worker knows job, unit and itself, and so the id of the span above its own."""
    shared = traces.shared_id(b"j" * 32, 2, b"w" * 32)
    with traces.first("job", TRACE), traces.span("shard", own=shared):
        pass
    with traces.arrived(TRACE), traces.span("work", parent=shared):
        pass
    assert tree(kept) == {"job": None, "shard": "job", "work": "shard"}
    assert traces.shared_id(b"j" * 32, 3, b"w" * 32) != shared


@pytest.mark.parametrize("trace", [b"", b"short", bytes(16), bytes(17)])
def test_what_is_no_trace_is_passed_over(kept: InMemorySpanExporter, trace: bytes) -> None:
    with traces.arrived(trace), traces.span("work"):
        assert traces.carried() == b""
    assert kept.get_finished_spans() == ()


def test_an_error_is_told_by_its_kind_only(kept: InMemorySpanExporter) -> None:
    with pytest.raises(Unsupported), traces.first("rpc"), traces.span("job"):
        raise Unsupported("a secret that a client sent")
    job, rpc = kept.get_finished_spans()
    for span in (job, rpc):
        assert dict(span.attributes or {}) == {"error.type": Unsupported.reason}
        assert not span.status.is_ok
        assert "secret" not in span.to_json()


def test_without_the_extra_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(Unsupported) as refused:
        traces.open_traces("http://127.0.0.1:4318/v1/traces", node="lab", version="1")
    assert "pip install opentelemetry-sdk" in (refused.value.hint or "")
