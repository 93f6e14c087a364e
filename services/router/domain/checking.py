"""Whether a cheap answer will do, told by what can be seen of it without asking anybody."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from quartet.common.v1.generation_pb2 import Completion, FinishReason, GenerationSpec, ResponseFormat
from quartet.common.v1.message_pb2 import Message

HEDGES = (
    "i don't know",
    "i do not know",
    "i'm not sure",
    "i am not sure",
    "i cannot answer",
    "i can't answer",
    "i cannot help",
    "i can't help",
    "i'm unable to",
    "i am unable to",
    "i don't have enough information",
    "i do not have enough information",
    "it is unclear",
    "as an ai",
)
"""Words by which models own up that they cannot; a route may list its own instead."""
SCANNED_CHARS = 2_000
"""Of the answer's beginning: that is where it says so."""
MAX_DEPTH = 32
"""How deep JSON is compared with its schema."""

_WHOLE = {
    FinishReason.FINISH_REASON_STOP,
    FinishReason.FINISH_REASON_STOP_SEQUENCE,
    FinishReason.FINISH_REASON_TOOL_CALLS,
}
_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cascade:
    """How the answers of a route's cheaper models are checked before they are given.

    Attributes:
        hedges: Phrases in lower case, of which none may be in the answer's beginning.
        judge_output_tokens: Most that a cheap model may write to say whether it is right; 0 asks none.
    """

    hedges: tuple[str, ...] = HEDGES
    judge_output_tokens: int = 0


def object_to(completion: Completion, message: Message, spec: GenerationSpec, cascade: Cascade) -> str:
    """Why an answer will not do; empty when nothing speaks against it."""
    if completion.finish_reason not in _WHOLE:
        reason = FinishReason.Name(completion.finish_reason).removeprefix("FINISH_REASON_").lower()
        return f"it ended by {reason}"
    calls = [part.tool_call for part in message.parts if part.WhichOneof("kind") == "tool_call"]
    if any(not _is_json(call.arguments_json or "{}") for call in calls):
        return "a tool call's arguments are no JSON"
    if any(part.refusal for part in message.parts):
        return "it declines"
    text = read_text(message).strip()
    if not text:
        return "" if calls else "it is empty"
    if spec.response_format.kind in (ResponseFormat.KIND_JSON_OBJECT, ResponseFormat.KIND_JSON_SCHEMA):
        return _object_to_json(text, spec.response_format)
    beginning = text[:SCANNED_CHARS].lower().replace("\u2019", "'")
    hedge = next((phrase for phrase in cascade.hedges if phrase in beginning), "")
    return f"it says {hedge!r}" if hedge else ""


def read_text(message: Message) -> str:
    """The words of an answer."""
    return "".join(part.text for part in message.parts)


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _object_to_json(text: str, form: ResponseFormat) -> str:
    if not _is_json(text):
        return "it is no JSON"
    value = orjson.loads(text)
    if form.kind == ResponseFormat.KIND_JSON_OBJECT or not form.schema_json:
        return "" if isinstance(value, dict) else "it is no JSON object"
    try:
        schema = orjson.loads(form.schema_json)
    except orjson.JSONDecodeError:
        return ""
    misfit = _find_misfit(value, schema, "", 0)
    return f"it does not fit its schema: {misfit}" if misfit else ""


def _find_misfit(value: Any, schema: Any, path: str, depth: int) -> str:
    """Where a value contradicts a schema, by `type`, `enum`, `const`, `required`, `properties` and `items`.

    What else a schema says is taken for kept: a pattern of the caller's could take for ever.
    """
    if not isinstance(schema, dict) or depth > MAX_DEPTH:
        return ""
    if misfit := _find_own_misfit(value, schema):
        return f"{path or 'the answer'} {misfit}"
    inner: Iterable[tuple[Any, Any, Any]] = ()
    if isinstance(value, dict) and isinstance(properties := schema.get("properties"), dict):
        inner = ((key, value[key], properties[key]) for key in properties.keys() & value.keys())
    elif isinstance(value, list):
        inner = ((place, each, schema.get("items")) for place, each in enumerate(value))
    misfits = (_find_misfit(each, part, f"{path}/{name}", depth + 1) for name, each, part in inner)
    return next(filter(None, misfits), "")


def _find_own_misfit(value: Any, schema: Mapping[str, Any]) -> str:
    types, values, required = schema.get("type"), schema.get("enum"), schema.get("required")
    allowed: Sequence[Any] = types if isinstance(types, list) else [types] if types else []
    if allowed and not any(_is_of(value, each) for each in allowed):
        return f"is no {' or '.join(map(str, allowed))}"
    if isinstance(values, list) and value not in values:
        return "is none of its values"
    if "const" in schema and value != schema["const"]:
        return "is not its constant"
    if isinstance(value, dict) and isinstance(required, list):
        missing = [str(key) for key in required if key not in value]
        return f"has no {', '.join(missing)}" if missing else ""
    return ""


def _is_of(value: Any, name: Any) -> bool:
    kind = _TYPES.get(name) if isinstance(name, str) else None
    if kind is None:
        return True
    if isinstance(value, bool):
        return kind is bool
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, kind)
