"""Times as people write them on a command line."""

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

_SPAN = re.compile(r"([0-9]{1,5})([smhd])")
_UNITS = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}


def read_span(text: str) -> timedelta:
    """A length of time: `30s`, `90m`, `24h`, `30d`, or `0`. Raises ValueError, saying what can be written."""
    span = _SPAN.fullmatch(text)
    if span is not None:
        return int(span[1]) * _UNITS[span[2]]
    if text == "0":
        return timedelta()
    raise ValueError(f"{text!r} is no length of time: write 30s, 90m, 24h, 30d or 0")


def read_moment(text: str, now: datetime) -> datetime:
    """A span before now (`90m`, `12h`, `7d`), or a date or time of ISO 8601, in UTC unless it says another.

    Raises ValueError, saying what can be written.
    """
    if _SPAN.fullmatch(text):
        return now - read_span(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time: write 2026-11-01, 2026-11-01T08:00, 90m, 12h or 7d") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def set_since(time: "Timestamp", text: str) -> None:
    """Sets a request's time from the option `--since`, where it is given; nonsense is wrong usage."""
    if not text:
        return
    try:
        time.FromDatetime(read_moment(text, datetime.now(UTC)))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--since") from None
