"""What goes over the wire, in both dialects, from one canonical conversation."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from quartet.common.v1 import generation_pb2 as generation
from quartet.common.v1 import message_pb2 as message
from quartet.router.v1.router_pb2 import Prompt
from services.kit.errors import InvalidArgument
from services.router.adapters.anthropic import requests as anthropic
from services.router.adapters.openai import requests as openai
from services.router.domain.adaptation import adapt
from services.router.domain.catalogue import Catalogue
from services.router.domain.routes import RouteTable

Encode = Callable[..., dict[str, Any]]
PNG = b"\x89PNG"


@pytest.fixture
def encode(catalogue: Catalogue, routes: RouteTable) -> Encode:
    def make(prompt: Prompt, model: str, *, stream: bool = False) -> dict[str, Any]:
        prompt.target.model = model
        request = adapt(prompt, catalogue.find(model), routes.named, output_tokens=500)
        dialect = anthropic if model.startswith("claude") else openai
        body: dict[str, Any] = json.loads(dialect.encode_request(request, stream=stream))
        return body

    return make


def conversation() -> Prompt:
    """A turn of every kind: system, picture, file, passages, parallel calls, results, and a last question."""
    part, turn = message.Part, message.Message
    call = message.ToolCall
    return Prompt(
        messages=[
            turn(
                role=message.ROLE_SYSTEM,
                parts=[part(text="Be brief.", cache_control_json='{"type":"ephemeral"}')],
            ),
            turn(
                role=message.ROLE_USER,
                parts=[
                    part(image=message.Media(mime_type="image/png", data=PNG, detail="low")),
                    part(document=message.Media(mime_type="application/pdf", data=b"%PDF", filename="a.pdf")),
                    part(passage=message.Passage(title="Manual", text="Press the button.")),
                    part(passage=message.Passage(title="Leaflet", text="Hold it.")),
                    part(text="What is this?"),
                ],
            ),
            turn(
                role=message.ROLE_ASSISTANT,
                parts=[
                    part(thinking=message.Thinking(text="hm", signature="sig")),
                    part(text="I look."),
                    part(tool_call=call(id="c1", name="look", arguments_json='{"a":1.0}')),
                    part(tool_call=call(id="c2", name="look", arguments_json="")),
                ],
            ),
            turn(
                role=message.ROLE_TOOL,
                parts=[part(tool_result=message.ToolResult(tool_call_id="c1", content=[part(text="r1")]))],
            ),
            turn(
                role=message.ROLE_TOOL,
                parts=[
                    part(
                        tool_result=message.ToolResult(
                            tool_call_id="c2", content=[part(text="r2")], is_error=True
                        )
                    )
                ],
            ),
            turn(role=message.ROLE_USER, parts=[part(text="And?")]),
        ],
        spec=generation.GenerationSpec(
            stop=["END"],
            tools=[generation.Tool(name="look", description="Looks.", input_schema_json='{"type":"object"}')],
            tool_choice=generation.ToolChoice(mode=generation.ToolChoice.MODE_AUTO),
            parallel_tool_calls=False,
        ),
    )


def test_a_conversation_in_openai_s_words(encode: Encode) -> None:
    body = encode(conversation(), "gpt-6.1-terra", stream=True)
    assert body["max_completion_tokens"] == 500
    assert body["stream_options"] == {"include_usage": True}
    assert (body["tool_choice"], body["parallel_tool_calls"], body["stop"]) == ("auto", False, ["END"])
    assert body["reasoning_effort"] == "none"
    system, user, assistant, first, second, last = body["messages"]
    assert system == {"role": "system", "content": "Be brief."}
    assert user["content"][0]["image_url"] == {
        "url": f"data:image/png;base64,{base64.b64encode(PNG).decode()}",
        "detail": "low",
    }
    assert user["content"][1]["file"]["filename"] == "a.pdf"
    assert [block["text"] for block in user["content"][2:]] == [
        "[1] Manual\nPress the button.",
        "[2] Leaflet\nHold it.",
        "What is this?",
    ]
    assert assistant["content"] == "I look."
    assert assistant["tool_calls"][0]["function"] == {"name": "look", "arguments": '{"a":1.0}'}
    assert first == {"role": "tool", "tool_call_id": "c1", "content": "r1"}
    assert second["content"] == "Error: r2"
    assert last == {"role": "user", "content": "And?"}


def test_a_conversation_in_anthropic_s_words(encode: Encode) -> None:
    body = encode(conversation(), "claude-opus-5-5", stream=True)
    assert (body["max_tokens"], body["stop_sequences"], body["stream"]) == (500, ["END"], True)
    assert body["system"] == [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    assert body["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    user, assistant, results = body["messages"]
    assert user["content"][0]["source"]["media_type"] == "image/png"
    assert user["content"][1]["title"] == "a.pdf"
    assert assistant["content"][0] == {"type": "thinking", "thinking": "hm", "signature": "sig"}
    assert assistant["content"][2] == {"type": "tool_use", "id": "c1", "name": "look", "input": {"a": 1.0}}
    assert [block["type"] for block in results["content"]] == ["tool_result", "tool_result", "text"]
    assert results["content"][1]["is_error"] is True


def test_extras_add_and_never_replace(encode: Encode) -> None:
    prompt = conversation()
    prompt.spec.extra_dialect = "openai"
    prompt.spec.extra_json = '{"model":"gpt-6-astra","service_tier":"flex","messages":[]}'
    body = encode(prompt, "gpt-6.1-terra")
    assert body["service_tier"] == "flex"
    assert body["model"] == "gpt-6.1-terra"
    assert body["messages"]


def test_several_answers_at_once_are_refused(encode: Encode) -> None:
    prompt = conversation()
    prompt.spec.extra_dialect, prompt.spec.extra_json = "openai", '{"n":3}'
    with pytest.raises(InvalidArgument, match="n: one answer"):
        encode(prompt, "gpt-6-luna")


def test_a_schema_that_is_no_json_is_refused_with_its_field(encode: Encode) -> None:
    prompt = conversation()
    prompt.spec.tools[0].input_schema_json = "{"
    for model in ("gpt-6-luna", "claude-opus-5-5"):
        with pytest.raises(InvalidArgument, match=r"spec\.tools\[look\]\.input_schema_json"):
            encode(prompt, model)


def test_numbers_of_a_schema_stay_as_they_were_written(encode: Encode) -> None:
    prompt = conversation()
    prompt.spec.tools[0].input_schema_json = '{"z":1,"a":1.0}'
    body = encode(prompt, "gpt-6-luna")
    assert json.dumps(body["tools"][0]["function"]["parameters"]) == '{"z": 1, "a": 1.0}'


def test_arguments_that_are_nested_without_end_are_the_client_s_fault(encode: Encode) -> None:
    prompt = conversation()
    deep = '{"x":' * 300 + "1" + "}" * 300
    prompt.messages[2].parts[2].tool_call.arguments_json = deep
    with pytest.raises(InvalidArgument, match="nested too deep"):
        encode(prompt, "claude-opus-5-5")
    assert encode(prompt, "gpt-6-luna")["messages"][2]["tool_calls"][0]["function"]["arguments"] == deep
