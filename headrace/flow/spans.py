"""Spans of OpenTelemetry for what happens to events, named and attributed by its messaging conventions."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from opentelemetry import context as current
from opentelemetry import trace
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from headrace.events.trace import TraceContext
from headrace.log.port import Chunk

_NAME = "headrace"


def configured_spans(system: str) -> "Spans | None":
    """Spans for the process's tracer provider; None when none is set, and they would go nowhere."""
    provider = trace.get_tracer_provider()
    return None if isinstance(provider, trace.ProxyTracerProvider) else Spans(provider, system)


class Handling:
    """The span of one event in an agent's hand; the current span while it lasts."""

    def __init__(self, span: Span, before: current.Context) -> None:
        self.context = span.get_span_context()
        self._span = span
        self._before = before

    def end(self, error: BaseException | None) -> None:
        """End the span. An agent may hold it in another task than it began in, so no token is kept."""
        if error is not None:
            self._span.record_exception(error)
            self._span.set_status(Status(StatusCode.ERROR, type(error).__name__))
        self._span.end()
        current.attach(self._before)


class Spans:
    """Starts spans at one tracer provider; `system` names the log as the conventions do."""

    def __init__(self, provider: trace.TracerProvider, system: str) -> None:
        self._tracer = trace.get_tracer(_NAME, tracer_provider=provider)
        self._system = system

    def handling(self, sent: TraceContext, chunk: Chunk, index: int, *, group: str, agent: str) -> Handling:
        """Begin the span of an event in hand: child of the span that sent it, and linked to it."""
        remote = span_context(sent)
        before = current.get_current()
        span = self._tracer.start_span(
            f"process {chunk.topic}",
            context=trace.set_span_in_context(trace.NonRecordingSpan(remote), before),
            kind=SpanKind.CONSUMER,
            links=[Link(remote)],
            attributes={
                **self._messaging("process", chunk.topic),
                "messaging.destination.partition.id": str(chunk.partition),
                "messaging.kafka.offset": chunk.offsets[index],
                "headrace.group": group,
                "headrace.agent": agent,
            },
        )
        current.attach(trace.set_span_in_context(span, before))
        return Handling(span, before)

    def sent(self, topic: str) -> TraceContext | None:
        """A span for an event that is sent here; what the event carries, None when it is not traced."""
        attributes = self._messaging("send", topic)
        span = self._tracer.start_span(f"send {topic}", kind=SpanKind.PRODUCER, attributes=attributes)
        span.end()
        return trace_context(span.get_span_context())

    @contextmanager
    def committing(
        self, group: str, partition: int, unit: int, events: int, handled: Sequence[SpanContext]
    ) -> Iterator[None]:
        """A span for the commit of a unit, linked to the recorded events in it."""
        with self._tracer.start_as_current_span(
            f"commit {group}",
            context=current.Context(),
            kind=SpanKind.CLIENT,
            links=[Link(context) for context in handled],
            attributes={
                "messaging.system": self._system,
                "messaging.operation.name": "commit",
                "messaging.operation.type": "settle",
                "messaging.batch.message_count": events,
                "headrace.group": group,
                "headrace.partition": partition,
                "headrace.unit": unit,
            },
        ):
            yield

    @contextmanager
    def request(self, method: str, path: str, caller: TraceContext | None) -> Iterator[Span]:
        """A span for an HTTP request, child of the caller's; the current span while it lasts."""
        context = current.Context()
        if caller is not None:
            context = trace.set_span_in_context(trace.NonRecordingSpan(span_context(caller)), context)
        with self._tracer.start_as_current_span(
            method,
            context=context,
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method, "url.path": path, "url.scheme": "http"},
        ) as span:
            yield span

    def _messaging(self, operation: str, topic: str) -> dict[str, str | int]:
        return {
            "messaging.system": self._system,
            "messaging.operation.name": operation,
            "messaging.operation.type": operation,
            "messaging.destination.name": topic,
        }


def span_context(sent: TraceContext) -> SpanContext:
    """A carried context as OpenTelemetry has it."""
    return SpanContext(
        int(sent.trace_id, 16),
        int(sent.span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(int(sent.parent[53:55], 16)),
        trace_state=TraceState.from_header([sent.state.decode()]) if sent.state else None,
    )


def trace_context(span: SpanContext) -> TraceContext | None:
    """A span as what its outputs carry; None for one that is in no trace."""
    if not span.is_valid:
        return None
    parent = f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"
    return TraceContext(parent.encode(), span.trace_state.to_header().encode())


def finish_request(span: Span, method: str, route: str | None, status: int) -> None:
    """Name the span by its route, and note the answer."""
    if route is not None:
        span.update_name(f"{method} {route}")
        span.set_attribute("http.route", route)
    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_status(Status(StatusCode.ERROR))
