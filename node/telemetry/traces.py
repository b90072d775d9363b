"""Spans of work: from a client's call over the steps of a job to each worker that did a part of it.

One job is one trace over all its nodes. What travels is the 16 bytes of `Head.trace`; the parent of
a worker's span need not travel, since both ends derive its id from what they agree on anyway: job,
unit and worker. Where a node has no collector (`metrics.otlp`), nothing is recorded, nothing is
sent, and opentelemetry is not even loaded. Never one span a message or micro-batch.

Knows: OpenTelemetry, the context of tasks. Must not know: jobs, peers, messages.
Source: https://www.w3.org/TR/trace-context/
"""

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from prsm.protocol.errors import PrsmError, Unsupported
from prsm.protocol.signing import sha256

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span, Tracer

TRACE_BYTES: Final = 16
SPAN_BYTES: Final = 8
CLOSE_MS: Final = 2_000
Value = str | int | float | bool


@dataclass(slots=True)
class _Ids:
    """Ids that were asked for: of the span that is begun next."""

    trace: bytes = b""
    span: bytes = b""

    def generate_trace_id(self) -> int:
        """As the SDK asks."""
        given, self.trace = self.trace, b""
        return int.from_bytes(given or _fresh(TRACE_BYTES), "big")

    def generate_span_id(self) -> int:
        """As the SDK asks."""
        given, self.span = self.span, b""
        return int.from_bytes(given or _fresh(SPAN_BYTES), "big")

    def is_trace_id_random(self) -> bool:
        """As the SDK asks: a client may have chosen it."""
        return False


class Traces:
    """What one node records.

    Args:
        exporter: where spans go.
        node: the node's name.
        version: of the program.
        is_batched: sent in batches by a thread; at once otherwise.
    """

    def __init__(
        self, exporter: "SpanExporter", *, node: str, version: str, is_batched: bool = True
    ) -> None:
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - an extra
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - an extra
        from opentelemetry.sdk.trace.export import (  # noqa: PLC0415 - an extra
            BatchSpanProcessor,
            SimpleSpanProcessor,
        )
        from opentelemetry.sdk.trace.id_generator import IdGenerator  # noqa: PLC0415 - an extra

        class Ids(_Ids, IdGenerator):
            """Ours, in the SDK's form."""

        names = {"service.name": "prsm", "service.version": version, "service.instance.id": node}
        self.ids = Ids()
        self._provider = TracerProvider(
            resource=Resource(names), id_generator=self.ids, shutdown_on_exit=False
        )
        processor = BatchSpanProcessor if is_batched else SimpleSpanProcessor
        self._provider.add_span_processor(processor(exporter))
        self.tracer: Tracer = self._provider.get_tracer("prsm", version)

    def close(self) -> None:
        """Send what waits, for two seconds at most. Blocks."""
        self._provider.force_flush(CLOSE_MS)
        self._provider.shutdown()


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where a task stands: in which trace, under which span; both empty outside of any."""

    traces: Traces
    trace: bytes = b""
    span: bytes = b""


_HERE: ContextVar[_Spot | None] = ContextVar("trace", default=None)


@dataclass(slots=True)
class Mark:
    """A span under way; of none where nothing is recorded."""

    _span: "Span | None" = None

    def set(self, **values: Value) -> None:
        """Say more about it; `__` in a name stands for a dot."""
        if self._span is not None:
            for name, value in values.items():
                self._span.set_attribute(name.replace("__", "."), value)


def open_traces(url: str, *, node: str, version: str) -> Traces:
    """Send spans to a collector.

    Args:
        url: of OTLP over HTTP, such as http://127.0.0.1:4318/v1/traces.
        node: the node's name.
        version: of the program.

    Raises:
        Unsupported: the extra `otel` is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - an extra
            OTLPSpanExporter,
        )
    except ImportError as error:
        raise Unsupported(
            f"metrics.otlp is {url}, and opentelemetry is not installed",
            hint="pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http",
        ) from error
    return Traces(
        OTLPSpanExporter(endpoint=url, timeout=CLOSE_MS / 1000), node=node, version=version
    )


def begin(traces: Traces) -> None:
    """Have this task, and all it starts from here on, record there."""
    _HERE.set(_Spot(traces))


def carried() -> bytes:
    """The trace of this task, as messages carry it; empty outside of any."""
    here = _HERE.get()
    return b"" if here is None else here.trace


@contextmanager
def arrived(trace: bytes) -> Iterator[None]:
    """Work on what a peer asked for, in its trace."""
    here = _HERE.get()
    if here is None or len(trace) != TRACE_BYTES or not any(trace):
        yield
        return
    token = _HERE.set(_Spot(here.traces, trace))
    try:
        yield
    finally:
        _HERE.reset(token)


@contextmanager
def first(name: str, trace: bytes = b"", **values: Value) -> Iterator[Mark]:
    """Begin a trace: the call of a client, or a job that nobody called for.

    Args:
        name: of the span.
        trace: the client's, 16 bytes; a new one if empty.
        values: of the span; `__` in a name stands for a dot.
    """
    here = _HERE.get()
    if here is None:
        yield Mark()
        return
    with _record(_Spot(here.traces, trace or _fresh(TRACE_BYTES)), name, b"", values) as mark:
        yield mark


@contextmanager
def span(name: str, *, own: bytes = b"", parent: bytes = b"", **values: Value) -> Iterator[Mark]:
    """Record a step of the work this task is part of; nothing outside of any.

    Args:
        name: of the span.
        own: its id, where a peer has to know it; random if empty.
        parent: the id of the span above, where that is a peer's.
        values: of the span; `__` in a name stands for a dot.
    """
    here = _HERE.get()
    if here is None or not here.trace:
        yield Mark()
        return
    spot = _Spot(here.traces, here.trace, parent or here.span)
    with _record(spot, name, own, values) as mark:
        yield mark


def shared_id(job: bytes, unit: int, worker: bytes) -> bytes:
    """The id of the span of one worker's part in one unit: the same at both ends."""
    return sha256(b"span", job, unit.to_bytes(8, "big"), worker)[:SPAN_BYTES]


@contextmanager
def _record(above: _Spot, name: str, own: bytes, values: Mapping[str, Value]) -> Iterator[Mark]:
    from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415 - an extra

    traces = above.traces
    own = own or _fresh(SPAN_BYTES)
    traces.ids.trace, traces.ids.span = above.trace, own
    found = traces.tracer.start_span(name, context=_context_of(above))
    mark = Mark(found)
    mark.set(**values)
    token = _HERE.set(_Spot(traces, above.trace, own))
    try:
        yield mark
    except BaseException as error:
        # The text of an error may hold what a client sent: its kind is enough.
        reason = error.reason if isinstance(error, PrsmError) else type(error).__name__
        found.set_attribute("error.type", reason)
        found.set_status(Status(StatusCode.ERROR))
        raise
    finally:
        _HERE.reset(token)
        found.end()


def _context_of(above: _Spot) -> "Context":
    from opentelemetry.context import Context  # noqa: PLC0415 - an extra
    from opentelemetry.trace import (  # noqa: PLC0415 - an extra
        NonRecordingSpan,
        SpanContext,
        TraceFlags,
        set_span_in_context,
    )

    if not above.span:
        return Context()
    span_id, trace_id = int.from_bytes(above.span, "big"), int.from_bytes(above.trace, "big")
    flags = TraceFlags(TraceFlags.SAMPLED)
    parent = SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags)
    return set_span_in_context(NonRecordingSpan(parent), Context())


def _fresh(size: int) -> bytes:
    return secrets.token_bytes(size)
