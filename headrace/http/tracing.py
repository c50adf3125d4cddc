"""A span for each request, around the application; it is there only where OpenTelemetry records."""

from collections.abc import Sequence
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace.events.trace import active_trace, trace_of_request
from headrace.flow.spans import Spans, finish_request, trace_context
from headrace.http.source import ROUTE, ServedTable

_QUIET = frozenset({b"/livez", b"/readyz", b"/metrics"})


class TracedApplication:
    """Runs each request but the probes in a span."""

    def __init__(self, application: ASGIApp, spans: Spans, tables: Sequence[ServedTable]) -> None:
        self._application = application
        self._spans = spans
        self._tables = {quote(table.path).encode(): table.path for table in tables}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer inside a span."""
        if scope["type"] != "http" or scope["raw_path"] in _QUIET:
            await self._application(scope, receive, send)
            return
        status = 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        method = scope["method"]
        with self._spans.request(method, scope["path"], trace_of_request(scope["headers"])) as span:
            token = active_trace.set(trace_context(span.get_span_context()))
            try:
                await self._application(scope, receive, watched)
            finally:
                active_trace.reset(token)
                finish_request(span, method, self._route(scope), status)

    def _route(self, scope: Scope) -> str | None:
        path: bytes = scope["raw_path"]
        if path in self._tables:
            return self._tables[path]
        table = self._tables.get(path[: path.rfind(b"/")])
        return f"{table}/{{key}}" if table else scope.get(ROUTE)
