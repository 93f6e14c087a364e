"""What a client's dialect carried beyond the canonical form, for the provider that speaks the same one."""

from collections.abc import Iterable
from typing import Any

import orjson

from quartet.common.v1.generation_pb2 import GenerationSpec
from quartet.common.v1.message_pb2 import Extra
from services.kit.errors import InvalidArgument
from services.kit.members import lay_over
from services.router.domain.adaptation import read_object
from services.router.domain.catalogue import Dialect

_TYPED = ("thinking", "tool_choice", "response_format")
"""Members that are nothing without their type."""


def add_extra(written: dict[str, Any], extra: Extra, dialect: Dialect) -> dict[str, Any]:
    """An object with its further members, which say it more exactly where they say it again.

    One with a `type` is the whole object.
    """
    if extra.dialect != dialect.value or not extra.json:
        return written
    more = read_object(extra.json, "extra.json")
    if "type" in more:
        return more
    lay_over(written, more)
    return written


def complete_body(
    body: dict[str, Any], spec: GenerationSpec, dialect: Dialect, *, ours: Iterable[str]
) -> None:
    """Adds the request's further members, at all depths; they replace nothing; `ours` are passed over."""
    texts = [extra.json for extra in spec.extras if extra.dialect == dialect.value]
    if spec.extra_json:
        texts.append(spec.extra_json)
    for text in texts:
        more = read_object(text, "spec.extra_json")
        for name in ours:
            more.pop(name, None)
        _add(body, more)
    for name in _TYPED:
        # The rest of an object that the model does not take.
        if isinstance(body.get(name), dict) and "type" not in body[name]:
            del body[name]


def encode_body(body: dict[str, Any]) -> bytes:
    """The body as JSON; raises InvalidArgument for what is nested deeper than can be written."""
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError:
        message = "the request is nested too deep, in a schema or in a tool's arguments: 240 levels are safe"
        raise InvalidArgument(message, reason="INVALID_REQUEST") from None


def _add(written: dict[str, Any], more: dict[str, Any]) -> None:
    for name, value in more.items():
        if name not in written:
            written[name] = value
        elif isinstance(value, dict) and isinstance(written[name], dict):
            _add(written[name], value)
