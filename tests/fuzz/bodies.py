"""Bodies of the dialects: requests as clients send them, and what becomes of them under a hostile hand."""

import json
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from tests.doubles.provider.signature import sign
from tests.fuzz.messages import ANY_TEXT

Body = dict[str, Any]
IMAGE = "data:image/png;base64,iVBORw0KGgo="
FUNCTION: Body = {
    "name": "weather",
    "description": "Tells it.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}

CHATS: list[Body] = [
    {"model": "auto", "messages": [{"role": "user", "content": "hello"}]},
    {
        "model": "gpt-6-luna",
        "messages": [
            {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
            {"role": "user", "content": [{"type": "text", "text": "What is it?"}], "name": "ann"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}},
                    {"id": "c2", "type": "function", "function": {"name": "weather", "arguments": "-"}},
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
            {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "rain"}]},
        ],
        "tools": [{"type": "function", "function": FUNCTION}],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "parallel_tool_calls": True,
        "max_completion_tokens": 5,
        "temperature": 0.5,
        "top_p": 1,
        "stop": ["a"],
        "seed": 7,
    },
    {
        "model": "rag/docs",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "two", "refusal": "no"},
            {
                "role": "user",
                "content": [{"type": "image_url", "image_url": {"url": IMAGE, "detail": "low"}}],
            },
        ],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "s", "schema": {"type": "object"}, "strict": True},
        },
        "logprobs": True,
        "metadata": {"a": "b"},
    },
]
EMBEDDINGS: list[Body] = [
    {"model": "text-embedding-3-small", "input": "x"},
    {"model": "local/minilm", "input": ["x", "y"], "encoding_format": "base64", "user": "u"},
]
RESPONSES: list[Body] = [
    {"model": "auto", "input": "hello"},
    {
        "model": "gpt-6-luna",
        "instructions": "Be brief.",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "What is it?"}]},
            {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
        ],
        "tools": [{"type": "function", **FUNCTION}],
        "tool_choice": "auto",
        "max_output_tokens": 50,
        "store": False,
    },
    {
        "model": "auto",
        "stream": True,
        "input": [{"type": "message", "role": "user", "content": "x"}],
        "text": {"format": {"type": "json_schema", "name": "s", "schema": {"type": "object"}}},
        "reasoning": {"effort": "low"},
    },
]
MESSAGES: list[Body] = [
    {"model": "auto", "max_tokens": 5, "messages": [{"role": "user", "content": "hello"}]},
    {
        "model": "claude-haiku-5-5",
        "max_tokens": 5,
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {
                "role": "user",
                "content": [
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="},
                    },
                    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "t"}},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": sign("claude-haiku-5-5", "hm")},
                    {"type": "redacted_thinking", "data": "eA=="},
                    {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Bern"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "c1", "content": "sunny", "is_error": False},
                    {"type": "text", "text": "go on"},
                ],
            },
        ],
        "tools": [
            {"name": "weather", "description": "Tells it.", "input_schema": {"type": "object"}},
            {"type": "web_search_20250305", "name": "web_search"},
        ],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        "thinking": {"type": "adaptive"},
        "temperature": 1,
        "stop_sequences": ["a"],
        "metadata": {"user_id": "u"},
    },
    {
        "model": "rag/docs",
        "max_tokens": 5,
        "stream": True,
        "messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": ""}],
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}},
    },
]
COUNTS: list[Body] = [{name: value for name, value in body.items() if name != "stream"} for body in MESSAGES]
DIALECTS: dict[str, list[Body]] = {
    "OpenAIService/CreateChatCompletion": CHATS,
    "OpenAIService/CreateEmbedding": EMBEDDINGS,
    "OpenAIService/CreateResponse": RESPONSES,
    "AnthropicService/CreateMessage": MESSAGES,
    "AnthropicService/CountMessageTokens": COUNTS,
}

_SCALARS = (
    st.none()
    | st.booleans()
    | st.sampled_from([0, -1, 1, 2**31, 2**32, 2**53 + 1, 2**63, 2**64 - 1, -(2**63), 1e308, -0.0, 5e-324])
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | ANY_TEXT
)
ANYTHING = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=6,
)
_WORDS = st.sampled_from(
    [
        *("user", "assistant", "system", "tool", "developer", "function", "text", "refusal", "file", "image"),
        *("image_url", "tool_use", "tool_result", "thinking", "input_text", "output_text", "reasoning"),
        *("json_schema", "json_object", "custom", "none", "any", "required", "auto", "agent", "rag/docs"),
        *(
            "rag/",
            "route/x",
            "pipeline/x",
            "agent/../x",
            "data:,",
            "data:;base64,%%%",
            "http://[",
            "https://",
        ),
    ]
)
_NAMES = st.sampled_from(
    [
        *("role", "content", "type", "text", "name", "model", "stream", "input", "tools", "metadata", "n"),
        *("max_tokens", "tool_calls", "function_call", "functions", "modalities", "audio", "logit_bias"),
        *("previous_response_id", "background", "conversation", "thinking", "cache_control", "source", "id"),
    ]
)
_TOKENS = st.sampled_from(
    [
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"1e400",
        b"-1e400",
        b"9" * 5_000,
        b"1" + b"0" * 400,
        b"0.1" + b"0" * 5_000,
        b'"\\ud800"',
        b'"\\udc00\\ud800"',
        b'"\xff\xfe"',
        b'"\xed\xa0\x80"',
        b'"\x00"',
        b'"\\u0000"',
        b"[" * 2_000 + b"]" * 2_000,
        b'{"a":' * 900 + b"1" + b"}" * 900,
        b"[" * 300 + b"]" * 300,
        b"[" * 200 + b"]" * 200,
        b'"' + b"x" * 1_000_000 + b'"',
        b'{"a":1,"a":2}',
        b"",
        b"'x'",
        b"true",
        b"/* x */ 1",
    ]
)
_WHOLE = st.sampled_from(
    [b"", b" ", b"null", b"[]", b"{}", b'""', b"0", b"\xef\xbb\xbf{}", b"{", b"\xff", b"[" * 100_000, b"{}{}"]
)
_MARK = "\ue000mark"


@st.composite
def bodies(draw: Callable[[Any], Any], requests: list[Body]) -> Any:
    """A request of the dialect, changed in up to three places and perhaps broken as text."""
    value: Any = draw(st.sampled_from(requests))
    for _ in range(draw(st.integers(0, 3))):
        value = _change(draw, value)
    match draw(st.integers(0, 23)):
        case 5:
            return draw(_WHOLE)
        case 7 | 11 | 13 | 14:
            places = _places(value)
            marked = _replace(value, places[draw(st.integers(0, len(places) - 1))], _MARK)
            return json.dumps(marked).encode().replace(json.dumps(_MARK).encode(), draw(_TOKENS))
        case 17:
            data = json.dumps(value).encode()
            return data[: draw(st.integers(0, len(data)))]
        case 19:
            data = json.dumps(value).encode()
            place = draw(st.integers(0, len(data)))
            return data[:place] + draw(st.binary(min_size=1, max_size=4)) + data[place:]
    return json.dumps(value).encode()


def _change(draw: Callable[[Any], Any], value: Any) -> Any:
    places = _places(value)
    at = places[draw(st.integers(0, len(places) - 1))]
    old = _at(value, at)
    match draw(st.integers(0, 6)):
        case 0:
            return _replace(value, at, draw(ANYTHING))
        case 1:
            return _replace(value, at, draw(_WORDS))
        case 2 if at:
            return _without(value, at)
        case 3 if isinstance(old, dict):
            return _replace(value, at, old | {draw(_NAMES | ANY_TEXT): draw(ANYTHING | _WORDS)})
        case 4 if isinstance(old, list) and old:
            return _replace(value, at, draw(st.permutations(old)))
        case 5 if isinstance(old, list):
            times = draw(st.sampled_from([2, 3, 20, 5_000 if len(json.dumps(old)) < 100 else 50]))
            return _replace(value, at, old * times)
    other = places[draw(st.integers(0, len(places) - 1))]
    return _replace(value, at, _at(value, other))


def _places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place within a JSON value; of a long list the first ones only."""
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value[:50])
    return [at, *(place for name, inner in items for place in _places(inner, (*at, name)))]


def _at(value: Any, at: tuple[Any, ...]) -> Any:
    for name in at:
        value = value[name]
    return value


def _replace(value: Any, at: tuple[Any, ...], new: Any) -> Any:
    if not at:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[at[0]] = _replace(copy[at[0]], at[1:], new)
    return copy


def _without(value: Any, at: tuple[Any, ...]) -> Any:
    copy = dict(value) if isinstance(value, dict) else list(value)
    if len(at) > 1:
        copy[at[0]] = _without(copy[at[0]], at[1:])
    else:
        del copy[at[0]]
    return copy
