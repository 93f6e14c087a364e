"""What the commands write: consoles, tables, money, and messages as JSON."""

import base64
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

PLAIN_WIDTH = 100_000
"""Columns of an output that is no terminal: its lines are for programs, and are never wrapped."""

_UNPRINTABLE = {code: None for code in (*range(0x20), 0x7F, *range(0x80, 0xA0)) if chr(code) not in "\n\t"}
"""Control characters that text from elsewhere could drive a terminal with."""


def console(*, stderr: bool = False) -> Console:
    """A console for stdout, or for the notes beside it; where there is no terminal it writes plain text."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PLAIN_WIDTH
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False, soft_wrap=True)


def printable(text: str) -> str:
    """Text as it may be written to a terminal: control characters but line ends and tabs are left out."""
    return text.translate(_UNPRINTABLE)


def usd(micro_usd: int) -> str:
    """An amount in US dollars, exact, with at least two decimals."""
    whole, fraction = divmod(micro_usd, 1_000_000)
    return f"${whole:,}.{f'{fraction:06d}'.rstrip('0'):0<2}"


def print_table(to: Console, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table with rules on a terminal, and elsewhere bare columns, two spaces apart."""
    cells = [[printable(cell).replace("\n", " ") for cell in row] for row in rows]
    if to.is_terminal:
        table = Table(*columns, box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
        for row in cells:
            table.add_row(*row)
        to.print(table, soft_wrap=False)
        return
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for line_cells in (columns, *cells):
        line = "  ".join(cell.ljust(width) for cell, width in zip(line_cells, widths, strict=True))
        to.print(line.rstrip())


def print_json(value: Any) -> None:
    """One JSON value on one line."""
    sys.stdout.write(orjson.dumps(value, default=plain).decode() + "\n")


def enum_word(name: str, prefix: str) -> str:
    """A value of an enum as people read it: `RUN_STATE_FAILED` with the prefix `RUN_STATE_` is `failed`."""
    return name.removeprefix(prefix).replace("_", " ").lower()


def plain(message: Message) -> Any:
    """A message as JSON takes it: the proto's names, 64-bit numbers as numbers, enums by name.

    Every field is there, but those that know absence (messages, oneofs, `optional`) when they are absent.
    """
    if isinstance(message, Timestamp):
        return message.ToJsonString()
    if isinstance(message, Duration):
        return message.ToMilliseconds() / 1000
    return {
        field.name: _plain_field(field, getattr(message, field.name))
        for field in message.DESCRIPTOR.fields
        if not field.has_presence or message.HasField(field.name)
    }


def _plain_field(field: Any, value: Any) -> Any:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        inner = field.message_type.fields_by_name["value"]
        return {str(key): _plain_value(inner, item) for key, item in value.items()}
    if field.is_repeated:
        return [_plain_value(field, item) for item in value]
    return _plain_value(field, value)


def _plain_value(field: Any, value: Any) -> Any:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return plain(value)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return base64.b64encode(value).decode("ascii")
    if field.enum_type is not None:
        named = field.enum_type.values_by_number.get(value)
        return named.name if named else value
    return value
