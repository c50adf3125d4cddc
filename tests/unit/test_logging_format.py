"""Log lines for machines: one JSON object each, whatever is logged."""

import contextvars
import json
import logging
import sys
from typing import Any

from opentelemetry.context import Context, attach
from opentelemetry.trace import NonRecordingSpan, SpanContext, set_span_in_context

from headrace.events.trace import TraceContext, active_trace
from headrace.logging_format import JsonFormatter, logging_config


def formatted(message: str, *arguments: object, **extra: Any) -> dict[str, Any]:
    record = logging.LogRecord("headrace.x", logging.WARNING, "x.py", 1, message, arguments, None)
    vars(record).update(extra)
    line = JsonFormatter().format(record)
    assert "\n" not in line
    result: dict[str, Any] = json.loads(line)
    return result


def test_a_line_has_time_level_logger_and_message() -> None:
    line = formatted("%s took\n%s s", "unit", 2)
    assert (line["level"], line["logger"], line["message"]) == ("warning", "headrace.x", "unit took\n2 s")
    assert line["time"].endswith("Z")


def test_extra_fields_are_kept_and_what_json_cannot_hold_becomes_text() -> None:
    assert formatted("x", partition=3, where={1})["partition"] == 3
    assert formatted("x", where={1})["where"] == "{1}"
    assert "color_message" not in formatted("x", color_message="\x1b[1mx")


def test_a_traceback_is_part_of_its_line() -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        line = formatted("failed", exc_info=sys.exc_info())
    assert line["error"].endswith("ValueError: broken")


def test_a_line_names_the_trace_of_the_request_and_the_span_in_hand() -> None:
    trace, span = 0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7
    assert "trace_id" not in formatted("x")
    token = active_trace.set(TraceContext(f"00-{trace:032x}-{span:016x}-01".encode()))
    assert formatted("x")["trace_id"] == f"{trace:032x}"
    active_trace.reset(token)
    current = set_span_in_context(NonRecordingSpan(SpanContext(trace, span, is_remote=False)))
    line = contextvars.copy_context().run(_formatted_in, current)
    assert (line["trace_id"], line["span_id"]) == (f"{trace:032x}", f"{span:016x}")


def _formatted_in(current: Context) -> dict[str, Any]:
    attach(current)
    return formatted("x")


def test_text_leaves_the_lines_to_faust() -> None:
    assert logging_config("text") is None
    assert logging_config("json") is not None
