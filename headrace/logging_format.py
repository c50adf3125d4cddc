"""Log lines as JSON: one object per line, for machines that collect them."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal

from headrace.events.trace import active_trace

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {
    *("message", "asctime", "taskName"),
    *("extra", "data"),  # Faust's
    "color_message",  # uvicorn's message once more, for terminals
}
"""What every log record has; anything else was given with `extra=`."""


class JsonFormatter(logging.Formatter):
    """One JSON object per record: time, level, logger, message, then `extra=` fields and the traceback."""

    def __init__(self, **_: Any) -> None:
        super().__init__()

    def format(self, record: logging.LogRecord) -> str:
        """The record on one line."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= _place_in_trace()
        line |= {name: value for name, value in vars(record).items() if name not in _PLAIN}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


def _place_in_trace() -> dict[str, str]:
    """The current span; without OpenTelemetry the trace of the request that is being answered."""
    telemetry = sys.modules.get("opentelemetry.trace")
    if telemetry is not None and (span := telemetry.get_current_span().get_span_context()).is_valid:
        return {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"}
    trace = active_trace.get()
    return {"trace_id": trace.trace_id} if trace else {}


def logging_config(log_format: Literal["text", "json"]) -> dict[str, Any] | None:
    """What Faust's worker takes as `logging_config`; None: its own lines for people."""
    if log_format == "text":
        return None
    ours = {"()": "headrace.logging_format.JsonFormatter"}
    return {"merge": True, "version": 1, "formatters": {"default": ours, "colored": ours}}
