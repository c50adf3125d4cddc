"""How a trace follows an event, from what is in hand to what is sent; with spans where they are recorded."""

import importlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from headrace.events.envelope import Headers
from headrace.events.trace import PARENT, TraceContext, active_trace, trace_of
from headrace.log.port import Chunk

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

    from headrace.flow.spans import Handling, Spans

_AHEAD = 32
_LINKS_MAX = 128


def find_spans(system: str) -> "Spans | None":
    """OpenTelemetry's side of tracing; None unless its API is installed and a tracer provider is set."""
    try:
        module = importlib.import_module("headrace.flow.spans")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "opentelemetry":
            raise
        return None
    spans: Spans | None = module.configured_spans(system)
    return spans


def carry_on(headers: Headers, trace: TraceContext | None) -> Headers:
    """The headers with the trace; unchanged without one, or when they name one themselves."""
    if trace is None or any(name == PARENT for name, _ in headers):
        return headers
    return (*headers, *trace.headers())


def sent_by_request(spans: "Spans | None", topic: str, headers: Headers) -> Headers:
    """The headers of an event that a request, timer or task sends."""
    trace = active_trace.get()
    if spans is not None and not any(name == PARENT for name, _ in headers):
        trace = spans.sent(topic) or trace
    return carry_on(headers, trace)


class TaskTrace:
    """The traces that run through one task."""

    def __init__(self, spans: "Spans | None", group: str, partition: int) -> None:
        self.spans = spans
        self.group = group
        self.partition = partition
        self._handled: list[SpanContext] = []

    def note(self, handled: "SpanContext") -> None:
        """Remember a span in the unit in hand; the unit's commit is linked to it."""
        if len(self._handled) < _LINKS_MAX:
            self._handled.append(handled)

    def take(self) -> "Sequence[SpanContext]":
        """What was remembered since it was last taken."""
        taken, self._handled = self._handled, []
        return taken

    def committing(
        self, unit: int, events: int, handled: "Sequence[SpanContext]"
    ) -> AbstractContextManager[None]:
        """A span for the commit of a unit with recorded events; nothing for one without."""
        if self.spans is None or not handled:
            return nullcontext()
        return self.spans.committing(self.group, self.partition, unit, events, handled)


class HandTrace:
    """The trace of the event in one agent's hand.

    Only events that a sender records stop the stream for a look; all others are handed out as if
    there were no tracing.
    """

    def __init__(self, task: TaskTrace, agent: str) -> None:
        self._task = task
        self._agent = agent
        self._chunk: Chunk | None = None
        self._handling: Handling | None = None

    @property
    def is_recording(self) -> bool:
        """Whether the stream has to tell which event it hands out."""
        return self._task.spans is not None

    # --- what the stream tells

    def begin(self, chunk: Chunk) -> None:
        """A run of events is handed out."""
        self._chunk = chunk

    def handed(self, index: int) -> int:
        """This event is in hand now; the result is the index at which to call again."""
        assert self._chunk is not None
        self.finished()
        headers = self._chunk.headers
        if (trace := _recorded(headers[index])) is not None:
            self._begin_handling(trace, self._chunk, index)
            return index + 1
        # Only a few are looked at, so that a large chunk does not hold the loop.
        bound = index + _AHEAD
        return next((i for i in range(index + 1, min(bound, len(headers))) if _recorded(headers[i])), bound)

    def _begin_handling(self, trace: TraceContext, chunk: Chunk, index: int) -> None:
        assert self._task.spans is not None
        group = self._task.group
        self._handling = self._task.spans.handling(trace, chunk, index, group=group, agent=self._agent)
        self._task.note(self._handling.context)

    def finished(self, error: BaseException | None = None) -> None:
        """The event that was in hand is finished, or the agent raised over it."""
        if self._handling is not None:
            handling, self._handling = self._handling, None
            handling.end(error)

    @contextmanager
    def of_agent(self) -> Iterator[None]:
        """The life of the agent's coroutine: what is in hand when it ends is finished, too."""
        try:
            yield
        except Exception as error:
            self.finished(error)
            raise
        finally:
            self.finished()

    # --- what is sent

    def sent(self, topic: str, headers: Headers, source: Headers) -> Headers:
        """The headers of an event that is sent while one with the headers `source` is in hand."""
        if not source and self._handling is None:
            return headers
        trace = trace_of(source)
        if self._handling is not None and not any(name == PARENT for name, _ in headers):
            assert self._task.spans is not None
            trace = self._task.spans.sent(topic) or trace
        return carry_on(headers, trace)


def _recorded(headers: Headers) -> TraceContext | None:
    trace = trace_of(headers)
    return trace if trace is not None and trace.is_sampled else None
