"""What offering tools costs in tokens.

OpenAI: "How to count tokens with tiktoken", section 7, in its cookbook
(https://github.com/openai/openai-cookbook, September 2024), whose formula covers functions with properties
that are not nested; nesting goes on in the same way here. Anthropic: "Tool use", section "Pricing"
(https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview), as of July 2026.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import orjson

from quartet.common.v1 import generation_pb2

_MAX_DEPTH = 16
"""Of schemas that are taken apart; what lies deeper counts as its JSON text."""
_PROPERTIES, _PROPERTY, _ENUM, _ENUM_ITEM, _TOOLS_END = 3, 3, -3, 3, 12
_FORCED = (generation_pb2.ToolChoice.MODE_REQUIRED, generation_pb2.ToolChoice.MODE_NAMED)
_TOOL_FRAME = 12
"""Around each of Anthropic's tools: an estimate from its published example of 403 tokens."""


class Offer(NamedTuple):
    """The texts of tools, and the tokens of what frames them."""

    texts: list[str]
    tokens: int


class ToolFormula(Protocol):
    """What the tools of a request cost."""

    def measure(
        self, tools: Sequence[generation_pb2.Tool], choice: generation_pb2.ToolChoice.Mode.ValueType
    ) -> Offer:
        """For at least one tool."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionSignatures:
    """OpenAI's: functions are shown to the model as signatures, not as JSON.

    Attributes:
        function: Tokens that begin each one.
    """

    function: int

    def measure(
        self, tools: Sequence[generation_pb2.Tool], choice: generation_pb2.ToolChoice.Mode.ValueType
    ) -> Offer:
        del choice
        texts: list[str] = []
        tokens = _TOOLS_END
        for tool in tools:
            if tool.builtin_json:
                texts.append(tool.builtin_json)
                continue
            tokens += self.function
            texts.append(f"{tool.name}:{tool.description.removesuffix('.')}")
            for text, framing in _signature(tool.input_schema_json):
                texts.append(text)
                tokens += framing
        return Offer(texts, tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolPrompt:
    """Anthropic's: a system prompt of its own, and the tools as they were sent.

    Attributes:
        free: Tokens of the prompt where the model may choose, or must call none.
        forced: Tokens of the prompt where it has to call one.
    """

    free: int
    forced: int

    def measure(
        self, tools: Sequence[generation_pb2.Tool], choice: generation_pb2.ToolChoice.Mode.ValueType
    ) -> Offer:
        texts: list[str] = []
        for tool in tools:
            texts += (tool.name, tool.description, tool.input_schema_json, tool.builtin_json)
        return Offer(texts, (self.forced if choice in _FORCED else self.free) + _TOOL_FRAME * len(tools))


def _signature(schema_json: str) -> Iterator[tuple[str, int]]:
    """The texts of a function's parameters, each with the tokens that frame it."""
    if not schema_json:
        return
    try:
        parts = list(_object(orjson.loads(schema_json), 0))
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        # No JSON, or nested more deeply than orjson writes.
        parts = [(schema_json, 0)]
    yield from parts


def _object(schema: Any, depth: int) -> Iterator[tuple[str, int]]:
    if not isinstance(schema, dict):
        return
    properties = schema.get("properties")
    if isinstance(properties, dict) and properties:
        yield "", _PROPERTIES
        for name, value in properties.items():
            yield from _property(name, value, depth)
    rest = {key: value for key, value in schema.items() if key not in _TAKEN_APART}
    if rest:
        yield _text(rest), 0


_TAKEN_APART = frozenset(
    {
        "type",
        "properties",
        "required",
        "description",
        "enum",
        "items",
        "additionalProperties",
        "title",
        "$schema",
    }
)


def _property(name: str, value: Any, depth: int) -> Iterator[tuple[str, int]]:
    if depth >= _MAX_DEPTH or not isinstance(value, dict):
        yield f"{name}:{_text(value)}", _PROPERTY
        return
    kind, told = value.get("type", ""), value.get("description", "")
    told = told.removesuffix(".") if isinstance(told, str) else _text(told)
    yield f"{name}:{kind if isinstance(kind, str) else _text(kind)}:{told}", _PROPERTY
    yield from _enum(value)
    yield from _object(value, depth + 1)
    items = value.get("items")
    if isinstance(items, dict):
        yield from _enum(items)
        yield from _object(items, depth + 1)


def _enum(value: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    choices = value.get("enum")
    if isinstance(choices, list) and choices:
        yield "", _ENUM
        for choice in choices:
            yield choice if isinstance(choice, str) else _text(choice), _ENUM_ITEM


def _text(value: Any) -> str:
    return orjson.dumps(value).decode()
