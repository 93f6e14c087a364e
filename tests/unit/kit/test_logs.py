import logging
import sys
from typing import Any

import orjson
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

from services.kit.logs import JsonFormatter


def a_line(record: logging.LogRecord) -> dict[str, Any]:
    text = JsonFormatter("router").format(record)
    assert "\n" not in text
    line: dict[str, Any] = orjson.loads(text)
    return line


def a_record(message: str, *args: object, **extra: object) -> logging.LogRecord:
    record = logging.makeLogRecord(
        {"name": "services.router", "levelname": "WARNING", "msg": message, "args": args}
    )
    vars(record).update(extra)
    return record


def test_a_line_says_what_where_and_when() -> None:
    line = a_line(a_record("model %s is gone", "x", model="x", successor=None))
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "WARNING",
        "logger": "services.router",
        "message": "model x is gone",
        "service": "router",
        "model": "x",
        "successor": None,
    }


def test_a_line_within_a_trace_names_it() -> None:
    context = SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=TraceFlags(1))
    with use_span(NonRecordingSpan(context)):
        line = a_line(a_record("here"))
    assert (line["trace_id"], line["span_id"]) == (f"{0xABC:032x}", f"{0xDEF:016x}")


def test_an_exception_is_one_line_too() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        line = a_line(a_record("failed", exc_info=sys.exc_info()))
    assert "ValueError: two\nlines" in line["stack"]


def test_a_value_that_json_does_not_know_becomes_text() -> None:
    assert a_line(a_record("x", what=ValueError("odd")))["what"] == "odd"
