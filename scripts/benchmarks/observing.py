"""`.venv/bin/python scripts/benchmarks/observing.py`: what counting, tracing and logging cost.

Prints one JSON document: microseconds of one event, milliseconds of one writing of /metrics, each
also as a share of a call answered from memory, measured in the same run.
"""

import io
import json
import time
from collections.abc import Callable

import trio
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from prsm.node.rpc.dispatch import bind
from prsm.node.rpc.methods.table import METHODS
from prsm.node.rpc.spec import ALL_SCOPES, Caller, NoParams
from prsm.node.telemetry import logs, metrics, traces
from prsm.node.telemetry.metrics import Metrics
from prsm.node.telemetry.metrictable import METRICS, Kind
from prsm.node.telemetry.traces import Traces

_CALL = b'{"jsonrpc":"2.0","id":1,"method":"rpc_ping"}'


def us(run: Callable[[], object], times: int) -> float:
    """Microseconds of one run: the best of five rounds."""
    rounds = []
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(times):
            run()
        rounds.append((time.perf_counter() - began) / times)
    return min(rounds) * 1e6


async def call_us() -> float:
    """Microseconds of a call through the dispatcher, answered from memory."""

    async def ping(_params: NoParams, _caller: Caller) -> dict[str, str]:  # noqa: ASYNC124 - a handler's form
        return {"time": "2026-01-01T00:00:00.000Z"}

    one = {"rpc_ping": METHODS["rpc_ping"]}
    dispatcher = bind({"rpc_ping": ping}, methods=one)
    caller = Caller("bench", ALL_SCOPES)
    rounds = []
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(20_000):
            await dispatcher.answer(_CALL, caller)
        rounds.append((time.perf_counter() - began) / 20_000)
    return min(rounds) * 1e6


def full() -> Metrics:
    """A node's numbers with about three hundred series."""
    found = Metrics()
    for row in METRICS:
        for number in range(8 if row.labels else 1):
            labels = tuple(f"value{number}" for _ in row.labels)
            if row.kind is Kind.HISTOGRAM:
                found.observe(row.name, 0.01, *labels)
            else:
                found.put(row.name, number, *labels)
    return found


def main() -> None:
    """Measure and print."""
    found, call = full(), trio.run(call_us)
    series = sum(line[:1] != b"#" for line in found.render().splitlines())
    metrics.begin(found)
    told = {
        "count": us(lambda: metrics.inc("prsm_jobs_total", "done"), 200_000),
        "observe": us(lambda: metrics.observe("prsm_loop_lag_seconds", 0.01), 200_000),
    }

    def span() -> None:
        with traces.span("step"):
            pass

    told["span, nobody collects"] = us(span, 200_000)
    traces.begin(Traces(InMemorySpanExporter(), node="bench", version="0"))
    with traces.first("call"):
        told["span, collected"] = us(span, 5_000)
    logs.configure(stream=io.StringIO(), style="json")
    log = logs.get("bench")
    told["log line that repeats"] = us(lambda: log.info("said", height=7), 20_000)
    document = {
        "call_us": round(call, 2),
        "events_us": {name: round(each, 2) for name, each in told.items()},
        "of_a_call": {name: round(each / call, 3) for name, each in told.items()},
        "writing_ms": round(us(found.render, 20) / 1000, 1),
        "series": series,
    }
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
