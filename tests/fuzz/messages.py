"""Hypothesis strategies for the messages of any contract, made from its descriptor and its rules."""

import importlib
import pkgutil
from collections.abc import Callable
from functools import cache
from typing import Any

from buf.validate import validate_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

MAX_DEPTH = 7
"""Of messages within messages; a list of parts in a tool result would nest without end."""
MAX_ITEMS = 3
"""Of a list that is as its rules want it; a wild one may have too many."""
KNOWN: dict[str, list[str]] = {
    "model": ["auto", "gpt-6-luna", "claude-haiku-5-5", "rag/docs", "agent/docs", "route/simple_faq", "gone"],
    "route": ["simple_faq", "gone"],
    "collection": ["docs", "default", ""],
    "embedding_model": ["", "local/minilm"],
    "mime_type": ["image/png", "application/pdf", "text/plain"],
    "rpc": ["Generate"],
    "scopes": ["*", "keys", "rpc:Generate", "model:gpt-6-luna"],
    "page_token": [""],
    "input_schema_json": ['{"type":"object"}', "", "{}"],
    "schema_json": ['{"type":"object"}', ""],
    "arguments_json": ["{}", '{"a":1}', "", "no json"],
    "extra_json": ["{}", '{"logprobs":true}', "", "[", "null", '{"a":{"a":{"a":{}}}}'],
    "builtin_json": ["", '{"type":"web_search"}', "]"],
    "cache_control_json": ["", '{"type":"ephemeral"}', "["],
    "url": ["https://example.test/a.png", "file:///etc/passwd", "http://169.254.169.254/"],
}
"""What a field of that name may well hold, so that more than its form is right."""
HOSTILE = st.sampled_from(
    [
        "",
        " ",
        "\x00",
        "a\x00b",
        "\r\nx-evil: 1",
        "\u202e\u0000\ufeff",
        "' OR '1'='1",
        "../../etc/passwd",
        "{{7*7}}${jndi:ldap://x}",
        "%s%n%00",
        "\U0001f9ff" * 70,
        "x" * 300,
        "y" * 70_000,
        "[" * 5_000,
    ]
)
ANY_TEXT = HOSTILE | st.text(max_size=24)

_INTEGERS = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SINT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SFIXED32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SINT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SFIXED64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_FIXED32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_FIXED64: (0, 2**64 - 1),
}
_MOSTLY = st.integers(0, 15).map(lambda number: number != 7)
"""False for one value in so many, which pays no heed to the rules; the ends would come too often."""
_COIN = st.integers(0, 7).map(lambda number: number in (2, 3, 5, 6))
_MAX_WILD_BYTES = 1_000_000

Known = dict[str, list[str]]


def wires(kind: Any, known: Known | None = None) -> st.SearchStrategy[bytes]:
    """Messages of a kind as they travel.

    Half of them obey the rules of their fields, and may be wrong in their sense only. The others break some,
    are damaged on the way, have fields that nobody knows, or are no messages at all.
    """
    pool = KNOWN | (known or {})
    proper, wild = (_Maker(pool, wild=wild).of(kind, MAX_DEPTH) for wild in (False, True))
    return proper.map(lambda message: message.SerializeToString()) | _damaged(wild)


@st.composite
def _damaged(draw: Callable[[Any], Any], messages: st.SearchStrategy[Message]) -> Any:
    data = draw(messages).SerializeToString()
    match draw(st.integers(0, 31)):
        case 7:
            return data[: draw(st.integers(0, len(data)))]
        case 11:
            return draw(st.binary(max_size=64))
        case 13:
            return data + draw(st.binary(min_size=1, max_size=16))
        case 17 if data:
            place, new = draw(st.integers(0, len(data) - 1)), draw(st.integers(0, 255))
            return data[:place] + bytes((new,)) + data[place + 1 :]
        case 19:
            # Groups within groups: deeper than any reader may go.
            return data + b"\x9b\x06" * draw(st.sampled_from([1, 99, 101, 20_000]))
    return data


class _Maker:
    """The strategies of all kinds of message, each made once."""

    def __init__(self, known: Known, *, wild: bool) -> None:
        self._known = known
        self._obeys = _MOSTLY if wild else st.just(True)
        self._made: dict[tuple[str, int], st.SearchStrategy[Message]] = {}

    def of(self, kind: Any, depth: int) -> st.SearchStrategy[Message]:
        key = (kind.full_name, depth)
        if key not in self._made:
            self._made[key] = st.deferred(lambda: self._message(kind, depth))
        return self._made[key]

    def _message(self, kind: Any, depth: int) -> st.SearchStrategy[Message]:
        made: type[Message] = GetMessageClass(kind)
        if kind.full_name in _WELL_KNOWN:
            seconds, nanos = st.sampled_from(_SECONDS), st.sampled_from((0, 1, 999_999_999, -1, 2**31 - 1))
            return st.builds(lambda s, n: made(seconds=s, nanos=n), seconds, nanos)
        groups = [tuple(oneof.fields) for oneof in kind.oneofs if not _is_optional(oneof)]
        grouped = {field.number for group in groups for field in group}
        alone = [(field,) for field in kind.fields if field.number not in grouped]
        choices = [
            (
                tuple((field.name, self._field(field, depth)) for field in group if _fits(field, depth)),
                any(_is_required(field) for field in group) or _oneof_is_required(group),
            )
            for group in [*alone, *groups]
        ]

        @st.composite
        def build(draw: Callable[[Any], Any]) -> Message:
            message = made()
            for fields, required in choices:
                if not fields or not draw(self._obeys if required else _COIN):
                    continue
                name, value = fields[draw(st.integers(0, len(fields) - 1))] if len(fields) > 1 else fields[0]
                _set(message, name, draw(value))
            return message

        return build()

    def _field(self, field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
        rules = field.GetOptions().Extensions[validate_pb2.field]
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
            return st.dictionaries(
                self._single(key, rules.map.keys, depth),
                self._single(value, rules.map.values, depth),
                max_size=MAX_ITEMS,
            )
        if not field.is_repeated:
            return self._single(field, rules, depth)
        least, most = rules.repeated.min_items, rules.repeated.max_items or MAX_ITEMS
        item = self._single(field, rules.repeated.items, depth)
        proper = st.lists(item, min_size=min(least, MAX_ITEMS), max_size=max(least, min(most, MAX_ITEMS)))
        many = item.map(lambda value: [value] * min(most + 1, 5_000, _MAX_WILD_BYTES // (1 + _size(value))))
        return self._mostly(proper, st.just([]) | many)

    def _single(self, field: FieldDescriptor, rules: Any, depth: int) -> st.SearchStrategy[Any]:
        if field.message_type is not None:
            return self.of(field.message_type, depth - 1)
        if field.type == FieldDescriptor.TYPE_STRING:
            return self._mostly(self._text(field, rules.string), ANY_TEXT)
        if field.type == FieldDescriptor.TYPE_BYTES:
            return self._mostly(st.sampled_from((b"", b"bytes", b"%PDF-1.7")), st.binary(max_size=64))
        if field.type == FieldDescriptor.TYPE_BOOL:
            return st.booleans()
        if field.enum_type is not None:
            numbers = [value.number for value in field.enum_type.values]
            declared = st.sampled_from([number for number in numbers if number not in rules.enum.not_in])
            return self._mostly(declared, st.sampled_from((-1, 99, 2**31 - 1)))
        if field.type in _INTEGERS:
            return self._integers(field, rules)
        return self._mostly(_proper_floats(rules.double), st.floats(width=32))

    def _mostly(self, proper: st.SearchStrategy[Any], wild: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return self._obeys.flatmap(lambda obeys: proper if obeys else wild)

    def _integers(self, field: FieldDescriptor, rules: Any) -> st.SearchStrategy[int]:
        low, high = _INTEGERS[field.type]
        kind = rules.WhichOneof("type")
        bounds = getattr(rules, kind) if kind in ("uint32", "uint64", "int32", "int64") else None
        least, most = low, high
        if bounds is not None:
            least = bounds.gte if bounds.HasField("gte") else bounds.gt + 1 if bounds.HasField("gt") else low
            most = bounds.lte if bounds.HasField("lte") else high
        proper = st.integers(max(least, 0), min(most, max(least, 0) + 4096)) | st.sampled_from(
            (max(least, 0), most)
        )
        edges = {low, high, least, most, max(low, least - 1), min(high, most + 1)}
        return self._mostly(proper, st.sampled_from(sorted(edges)) | st.integers(low, high))

    def _text(self, field: FieldDescriptor, rules: Any) -> st.SearchStrategy[str]:
        known = self._known.get(field.name)
        if known:
            return st.sampled_from(known)
        if rules.pattern and "x00" not in rules.pattern:
            return st.from_regex(rules.pattern, fullmatch=True).filter(lambda text: "\n" not in text)
        if allowed := list(getattr(rules, "in")):
            return st.sampled_from(allowed)
        if rules.len:
            return st.text(min_size=rules.len, max_size=rules.len)
        least, most = rules.min_len, min(rules.max_len or 24, 24)
        return st.sampled_from(("hello", "What is the notice period?", "a", "gpt-6-luna", "docs")).filter(
            lambda text: least <= len(text)
        ) | st.text(min_size=least, max_size=max(least, most))


_WELL_KNOWN = {"google.protobuf.Timestamp", "google.protobuf.Duration"}
_SECONDS = (0, 1, 60, 86_400, 1_800_000_000, -1, 253_402_300_800, 2**63 - 1, -(2**63))


def _proper_floats(rules: Any) -> st.SearchStrategy[float]:
    least = rules.gte if rules.HasField("gte") else rules.gt if rules.HasField("gt") else 0.0
    most = rules.lte if rules.HasField("lte") else least + 1.0
    return st.sampled_from((most, (least + most) / 2))


def _fits(field: FieldDescriptor, depth: int) -> bool:
    return field.message_type is None or depth > 1


def _is_required(field: FieldDescriptor) -> bool:
    rules = field.GetOptions().Extensions[validate_pb2.field]
    strict = rules.string.min_len or rules.string.pattern or rules.repeated.min_items
    return bool(rules.required or strict)


def _oneof_is_required(group: tuple[FieldDescriptor, ...]) -> bool:
    oneof = group[0].containing_oneof
    return bool(oneof and len(group) > 1 and oneof.GetOptions().Extensions[validate_pb2.oneof].required)


def _is_optional(oneof: Any) -> bool:
    """Whether it is only how an `optional` field is described."""
    return len(oneof.fields) == 1 and oneof.name.startswith("_")


def _size(value: Any) -> int:
    if isinstance(value, Message):
        return value.ByteSize()
    return len(value) if isinstance(value, str | bytes) else 8


def _set(message: Message, name: str, value: Any) -> None:
    if isinstance(value, Message):
        getattr(message, name).CopyFrom(value)
    elif isinstance(value, list):
        getattr(message, name).extend(value)
    elif isinstance(value, dict):
        target = getattr(message, name)
        for key, item in value.items():
            if isinstance(item, Message):
                target[key].CopyFrom(item)
            else:
                target[key] = item
    else:
        setattr(message, name, value)


@cache
def contracts(package: str) -> tuple[str, ...]:
    """The full names of all services of a contract's package, such as `quartet.gateway.v1`."""
    found: list[str] = []
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        if module.name.endswith("_pb2"):
            file = importlib.import_module(f"{package}.{module.name}").DESCRIPTOR
            found += [service.full_name for service in file.services_by_name.values()]
    return tuple(sorted(found))
