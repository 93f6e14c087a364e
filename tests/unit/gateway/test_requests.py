"""Whatever JSON comes in, the readers of both dialects give a prompt, or a refusal that names the member."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from google.protobuf import json_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.gateway.adapters.anthropic.request import read_message
from services.gateway.adapters.fields import MAX_OBJECTS
from services.gateway.adapters.openai.embeddings import read_embedding
from services.gateway.adapters.openai.request import read_chat
from services.gateway.adapters.openai.responses_request import read_response
from services.kit.errors import InvalidArgument
from tests.golden.roundtrip import Requests

GOLDEN = [
    path for path in sorted((Path(__file__).parent / "golden").glob("*.json")) if "_counts" not in path.stem
]
READERS: dict[str, Callable[[bytes], Any]] = {"openai": read_chat, "anthropic": read_message}
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.sampled_from(["text", "tool_result", "image_url", "user", "assistant", "data:;base64,", "function"])
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


def reader_of(path: Path) -> Callable[[bytes], Any]:
    return READERS[path.name.partition("_")[0]]


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place within a JSON value."""
    found = [at] if at else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        found += places(inner, (*at, name))
    return found


def replaced(value: Any, at: tuple[Any, ...], new: Any) -> Any:
    copy = json.loads(json.dumps(value))
    target = copy
    for name in at[:-1]:
        target = target[name]
    target[at[-1]] = new
    return copy


def read(reader: Callable[[bytes], Any], body: bytes) -> None:
    """Lets typed refusals pass and every other exception fail the test."""
    refusal: InvalidArgument | None = None
    try:
        reader(body)
    except InvalidArgument as error:
        refusal = error
    if refusal is not None:
        assert refusal.reason in {"INVALID_JSON", "INVALID_REQUEST"}
        assert refusal.message


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_request_becomes_its_golden_prompt(path: Path) -> None:
    golden = json.loads(path.read_text(encoding="utf-8"))
    target, prompt = reader_of(path)(orjson.dumps(golden["request"])).order
    found = json_format.MessageToDict(prompt, preserving_proto_field_name=True)
    assert found == golden["prompt"]
    assert target.kind.value == golden["target"]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
@given(data=st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_a_request_with_anything_anywhere_is_read_or_refused(path: Path, data: st.DataObject) -> None:
    request = json.loads(path.read_text(encoding="utf-8"))["request"]
    at = data.draw(st.sampled_from(places(request)))
    try:
        body = orjson.dumps(replaced(request, at, data.draw(JSON)))
    except orjson.JSONEncodeError:  # a number that JSON here has no room for
        return
    read(reader_of(path), body)


@given(body=st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    for reader in (read_chat, read_message, read_embedding, read_response):
        read(reader, body)


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"x": value}
    return value


@pytest.mark.parametrize("levels", [*range(200, 260, 3), 400])
def test_what_can_be_read_can_be_sent_however_deep_it_is_nested(levels: int) -> None:
    """A provider's request has it deeper than the client's, and no level of that is our fault."""
    deep, said = nested(levels), {"role": "user", "content": "x"}
    requests, refused = Requests(), 0
    for dialect, request in (
        ("openai", {"messages": [said], "vendor": deep}),
        ("openai", {"messages": [{**said, "vendor": deep}]}),
        (
            "openai",
            {
                "messages": [said],
                "tools": [{"type": "function", "function": {"name": "f", "parameters": deep}}],
            },
        ),
        ("anthropic", {"max_tokens": 1, "messages": [said], "tools": [{"name": "f", "input_schema": deep}]}),
        ("anthropic", {"max_tokens": 1, "messages": [{**said, "content": [{"type": "new", "x": deep}]}]}),
        ("responses", {"input": "x", "text": {"vendor": deep}, "metadata": deep}),
    ):
        for provider in ("openai", "anthropic"):
            try:
                requests.send(dialect, request, provider)
            except InvalidArgument:
                refused += 1
    assert refused == (0 if levels < 230 else 12 if levels > 240 else refused)


def test_tool_results_within_tool_results_are_refused() -> None:
    block: dict[str, Any] = {"type": "text", "text": "x"}
    for _ in range(100):
        block = {"type": "tool_result", "tool_use_id": "t", "content": [block]}
    body = {"model": "auto", "max_tokens": 1, "messages": [{"role": "user", "content": [block]}]}
    with pytest.raises(InvalidArgument) as caught:
        read_message(orjson.dumps(body))
    assert caught.value.field_violations[0].field == "messages[0].content[0].content[0].type"


def chat(**members: Any) -> bytes:
    return orjson.dumps({"model": "auto", "messages": [{"role": "user", "content": "x"}], **members})


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"model": None}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"n": 2}, "n"),
        ({"functions": []}, "functions"),
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"stop": [1]}, "stop"),
        ({"seed": 2**63}, "seed"),
        ({"tool_choice": "maybe"}, "tool_choice"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"modalities": ["text", "audio"]}, "modalities"),
    ],
)
def test_a_wrong_member_is_named(members: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        read_chat(chat(**members))
    assert caught.value.field_violations[0].field == field


def test_anthropic_needs_a_limit_for_the_answer_but_not_for_a_count() -> None:
    body = chat()
    with pytest.raises(InvalidArgument) as caught:
        read_message(body)
    assert caught.value.field_violations[0].field == "max_tokens"
    read_message(body, counting=True)


def test_numbers_and_key_order_of_schemas_stay() -> None:
    schema = b'{"z":1.0,"a":{"minimum":1}}'
    tool = b'[{"type":"function","function":{"name":"f","parameters":' + schema + b"}}]"
    body = b'{"model":"auto","messages":[{"role":"user","content":"x"}],"tools":' + tool + b"}"
    spec = read_chat(body).order.prompt.spec
    assert spec.tools[0].input_schema_json.encode() == schema


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_a_body_of_too_many_objects_is_refused_before_they_are_read(read: Callable[[bytes], Any]) -> None:
    parts = [{"type": "text", "text": "x"}] * MAX_OBJECTS
    body = {"model": "auto", "max_tokens": 1, "messages": [{"role": "user", "content": parts}]}
    with pytest.raises(InvalidArgument) as caught:
        read(json.dumps(body).encode())
    assert caught.value.reason == "TOO_MANY_ELEMENTS"


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_braces_within_a_text_are_no_objects(read: Callable[[bytes], Any]) -> None:
    body = {
        "model": "auto",
        "max_tokens": 1,
        "messages": [{"role": "user", "content": "{" * (MAX_OBJECTS + 1)}],
    }
    read(json.dumps(body).encode())
