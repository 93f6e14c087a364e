"""What one dialect carries beyond the canonical form: kept as it comes in, laid over what goes out."""

from typing import Any

import orjson

from quartet.common.v1 import generation_pb2, message_pb2
from services.gateway.adapters.fields import Fields, write_json

OPENAI = "openai"
ANTHROPIC = "anthropic"
RESPONSES = "responses"
Bearer = message_pb2.Message | message_pb2.Part | generation_pb2.Tool


def keep_rest(fields: Fields, bearer: Bearer, dialect: str, **more: Any) -> None:
    """Keeps the members of an object that nobody read, and more that the canonical form has no room for."""
    if rest := fields.rest() | more:
        bearer.extra.dialect = dialect
        bearer.extra.json = write_json(rest, fields.path("extra"))


def keep_whole(fields: Fields, dialect: str) -> message_pb2.Extra:
    """An object that only its dialect knows."""
    return message_pb2.Extra(dialect=dialect, json=fields.whole())


def read_extra(extra: message_pb2.Extra, dialect: str) -> dict[str, Any]:
    """The members that a provider of the same dialect sent; none for another."""
    if extra.dialect != dialect or not extra.json:
        return {}
    value = orjson.loads(extra.json)
    return value if isinstance(value, dict) else {}
