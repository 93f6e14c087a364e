import asyncio
import json
from typing import Any

import pytest
from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]
from openai import omit
from openai._models import construct_type_unchecked
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent

from quartet.common.v1 import generation_pb2, message_pb2
from services.kit.errors import NotFound, ResourceExhausted, Unavailable
from tests.contract.gateway.conftest import Gateway
from tests.contract.gateway.neighbours import CITATION, MODEL, complete, say

STATUS = "x-quartet-status"
Part = message_pb2.Part
TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": True}


def body(**members: Any) -> bytes:
    return json.dumps({"model": "auto", "input": "Hi", **members}).encode()


def value(answers: list[HttpBody]) -> Any:
    assert len(answers) == 1
    return json.loads(answers[0].data)


def response_of(answers: list[HttpBody]) -> Response:
    return Response.model_validate(value(answers))


def events_of(answers: list[HttpBody]) -> list[dict[str, Any]]:
    """The events, whose order and numbers the SDK's own state takes as the vendor's."""
    assert {answer.content_type for answer in answers} == {"text/event-stream"}
    frames = b"".join(answer.data for answer in answers).decode().split("\n\n")
    assert frames.pop() == ""
    events = []
    state: Any = ResponseStreamState(input_tools=[], text_format=omit)
    for number, frame in enumerate(frames):
        head, data = frame.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert head == f"event: {event['type']}"
        assert event["sequence_number"] == number
        state.handle_event(construct_type_unchecked(type_=ResponseStreamEvent, value=event))  # type: ignore[arg-type]
        events.append(event)
    return events


def kinds_of(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


async def test_a_whole_answer_is_a_response_that_tells_its_cost(gateway: Gateway) -> None:
    call = gateway.call()
    found = value(await gateway.respond(body(metadata={"a": "b"}, store=True), call))
    response = Response.model_validate(found)
    assert response.output_text == "Hello there"
    assert (response.status, response.model) == ("completed", MODEL)
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.total_tokens) == (11, 15)
    assert found["usage"]["quartet"]["cost_micro_usd"] == 42
    assert found["metadata"] == {"a": "b"}
    assert found["store"] is False
    assert STATUS not in call.response_headers


async def test_a_stream_has_every_event_of_the_vendor_s(gateway: Gateway) -> None:
    events = events_of(await gateway.respond(body(stream=True)))
    assert kinds_of(events) == [
        *("created", "in_progress", "output_item.added", "content_part.added"),
        *("output_text.delta", "output_text.delta"),
        *("output_text.done", "content_part.done", "output_item.done", "completed"),
    ]
    last = events[-1]["response"]
    assert Response.model_validate(last).output_text == "Hello there"
    assert last["usage"]["quartet"]["cost_micro_usd"] == 42
    assert events[0]["response"]["output"] == []


async def test_reasoning_calls_and_text_are_items_of_their_own(gateway: Gateway) -> None:
    thinking = message_pb2.Thinking(text="hm", signature="sig")
    calls = [message_pb2.ToolCall(id=f"call_{n}", name="weather", arguments_json='{"n":1.0}') for n in (1, 2)]
    gateway.router.completion = complete(
        Part(thinking=thinking),
        Part(text="I look."),
        *(Part(tool_call=call) for call in calls),
        finish=generation_pb2.FINISH_REASON_TOOL_CALLS,
    )
    whole = value(await gateway.respond(body(tools=[TOOL])))["output"]
    assert [item["type"] for item in whole] == ["reasoning", "message", "function_call", "function_call"]
    assert whole[2]["arguments"] == '{"n":1.0}'

    gateway.router.deltas = [
        generation_pb2.Delta(thinking=message_pb2.Thinking(text="hm"), part_index=0),
        generation_pb2.Delta(thinking=message_pb2.Thinking(signature="sig"), part_index=0),
        generation_pb2.Delta(text="I ", part_index=1),
        generation_pb2.Delta(text="look.", part_index=1),
    ]
    for index, call in enumerate(calls, start=2):
        gateway.router.deltas += [
            generation_pb2.Delta(
                tool_call=message_pb2.ToolCall(id=call.id, name=call.name), part_index=index
            ),
            generation_pb2.Delta(tool_call=message_pb2.ToolCall(arguments_json='{"n":'), part_index=index),
            generation_pb2.Delta(tool_call=message_pb2.ToolCall(arguments_json="1.0}"), part_index=index),
        ]
    events = events_of(await gateway.respond(body(stream=True, tools=[TOOL])))
    streamed = events[-1]["response"]["output"]
    names = ("id", "status")
    assert [{k: v for k, v in item.items() if k not in names} for item in streamed] == [
        {k: v for k, v in item.items() if k not in names} for item in whole
    ]
    assert kinds_of(events).count("function_call_arguments.delta") == 4
    done = [event for event in events if event["type"] == "response.function_call_arguments.done"]
    assert [event["arguments"] for event in done] == ['{"n":1.0}'] * 2


async def test_an_answer_goes_back_as_input_whole(gateway: Gateway) -> None:
    thinking = message_pb2.Thinking(text="hm", signature="sig")
    call = message_pb2.ToolCall(id="call_1", name="weather", arguments_json="{}")
    gateway.router.completion = complete(
        Part(thinking=thinking), Part(text="I look.", citations=[CITATION]), Part(tool_call=call)
    )
    output = value(await gateway.respond(body(tools=[TOOL])))["output"]
    result = {"type": "function_call_output", "call_id": "call_1", "output": "Rain"}
    await gateway.respond(body(input=[{"role": "user", "content": "Hi"}, *output, result], tools=[TOOL]))
    _, said, answered = gateway.router.prompts[-1].messages
    assert [part.WhichOneof("kind") for part in said.parts] == ["thinking", "text", "tool_call"]
    assert said.parts[0].thinking == thinking
    assert said.parts[2].tool_call == call
    assert answered.parts[0].tool_result.content[0].text == "Rain"


async def test_custom_tools_take_and_give_free_text(gateway: Gateway) -> None:
    call = message_pb2.ToolCall(id="call_1", name="shell", input_text="ls")
    gateway.router.completion = complete(Part(tool_call=call))
    tool = {
        "type": "custom",
        "name": "shell",
        "format": {"type": "grammar", "syntax": "regex", "definition": "x"},
    }
    output = value(await gateway.respond(body(tools=[tool])))["output"]
    assert (output[0]["type"], output[0]["input"]) == ("custom_tool_call", "ls")
    declared = json.loads(gateway.router.prompts[-1].spec.tools[0].builtin_json)
    assert declared["custom"]["format"] == {
        "type": "grammar",
        "grammar": {"syntax": "regex", "definition": "x"},
    }
    result = {"type": "custom_tool_call_output", "call_id": "call_1", "output": "a.txt"}
    await gateway.respond(body(input=[{"role": "user", "content": "Hi"}, *output, result], tools=[tool]))
    assert gateway.router.prompts[-1].messages[1].parts[0].tool_call == call

    gateway.router.deltas = [
        generation_pb2.Delta(tool_call=message_pb2.ToolCall(id="call_1", name="shell", input_text="l")),
        generation_pb2.Delta(tool_call=message_pb2.ToolCall(input_text="s")),
    ]
    events = events_of(await gateway.respond(body(stream=True, tools=[tool])))
    assert kinds_of(events).count("custom_tool_call_input.delta") == 2
    assert events[-1]["response"]["output"][0]["input"] == "ls"


@pytest.mark.parametrize("model", ["rag/docs", "agent"])
async def test_citations_are_annotations(gateway: Gateway, model: str) -> None:
    found = value(await gateway.respond(body(model=model)))
    (annotation,) = found["output"][0]["content"][0]["annotations"]
    assert annotation["url"] == "/api/v1/documents/d1"
    assert annotation["quote"] == "The moon is far."
    events = events_of(await gateway.respond(body(model=model, stream=True)))
    (added,) = [event for event in events if event["type"] == "response.output_text.annotation.added"]
    assert added["annotation"] == annotation
    assert events[-1]["response"]["output"][0]["content"][0]["annotations"] == [annotation]


@pytest.mark.parametrize(
    ("finish", "status", "reason"),
    [
        (generation_pb2.FINISH_REASON_LENGTH, "incomplete", "max_output_tokens"),
        (generation_pb2.FINISH_REASON_CONTENT_FILTER, "incomplete", "content_filter"),
        (generation_pb2.FINISH_REASON_STOP, "completed", None),
    ],
)
async def test_how_it_ended_is_the_response_s_status(
    gateway: Gateway, finish: generation_pb2.FinishReason.ValueType, status: str, reason: str | None
) -> None:
    gateway.router.completion = complete(Part(text="Hello"), finish=finish)
    for found in (
        value(await gateway.respond(body())),
        events_of(await gateway.respond(body(stream=True)))[-1]["response"],
    ):
        assert found["status"] == found["output"][-1]["status"] == status
        assert (found["incomplete_details"] or {}).get("reason") == reason


async def test_a_refusal_is_content(gateway: Gateway) -> None:
    gateway.router.completion = complete(Part(refusal="No."))
    found = value(await gateway.respond(body()))
    assert found["output"][0]["content"] == [{"type": "refusal", "refusal": "No."}]
    gateway.router.deltas = [generation_pb2.Delta(refusal="N"), generation_pb2.Delta(refusal="o.")]
    events = events_of(await gateway.respond(body(stream=True)))
    assert events[-1]["response"]["output"][0]["content"] == found["output"][0]["content"]


@pytest.mark.parametrize("stream", [False, True])
async def test_errors_before_the_first_event_have_openai_s_shape(gateway: Gateway, stream: bool) -> None:
    gateway.router.error = NotFound("x", reason="MODEL_NOT_FOUND")
    call = gateway.call()
    found = value(await gateway.respond(body(stream=stream), call))["error"]
    assert found["code"] == "model_not_found"
    assert call.response_headers[STATUS] == "404"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Unavailable("gone", reason="PROVIDER_FAILED"), "server_error"),
        (ResourceExhausted("enough", reason="BUDGET_EXHAUSTED"), "rate_limit_exceeded"),
    ],
)
async def test_a_stream_that_breaks_ends_as_failed(gateway: Gateway, error: Any, code: str) -> None:
    gateway.router.deltas = say("Hello", " there")
    gateway.router.error, gateway.router.error_after = error, 1
    events = events_of(await gateway.respond(body(stream=True)))
    assert events[-1]["type"] == "response.failed"
    failed = events[-1]["response"]
    assert failed["error"]["code"] == code
    assert failed["error"]["message"] == error.message
    assert failed["output"][0]["content"][0]["text"] == "Hello"


async def test_time_that_runs_out_amid_a_stream_ends_it_as_failed(gateway: Gateway) -> None:
    gateway.router.pause = asyncio.Event()
    call = gateway.call(x_quartet_timeout_ms="300")
    events = events_of(await gateway.respond(body(stream=True), call))
    assert events[-1]["response"]["error"]["quartet"]["reason"] == "DEADLINE_EXCEEDED"


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": {"id": "conv_1"}}, "conversation"),
        ({"background": True}, "background"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": [{"id": "msg_1"}]}, "input[0].type"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].type"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "input[0].content[0].type"),
        ({"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]}, "input[0].call_id"),
        (
            {"input": [{"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "qt1.%"}]},
            "input[0].encrypted_content",
        ),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"tool_choice": {"type": "web_search"}}, "tool_choice.type"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
    ],
)
async def test_what_cannot_be_had_is_refused_by_name(
    gateway: Gateway, members: dict[str, Any], field: str
) -> None:
    call = gateway.call()
    found = value(await gateway.respond(body(**members), call))["error"]
    assert call.response_headers[STATUS] == "400"
    assert found["param"] == field
    assert not gateway.router.calls


async def test_every_member_that_means_something_reaches_the_router(gateway: Gateway) -> None:
    await gateway.respond(
        body(
            instructions="Be brief.",
            input=[
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "input_text",
                            "text": "What?",
                            "prompt_cache_breakpoint": {"mode": "explicit"},
                        },
                        {
                            "type": "input_image",
                            "image_url": "data:image/png;base64,iVBORw0KGgo=",
                            "detail": "low",
                        },
                        {"type": "input_file", "filename": "a.pdf", "file_data": "JVBERg=="},
                    ],
                },
                {"type": "web_search_call", "id": "ws_1", "status": "completed"},
            ],
            text={"format": {"type": "json_schema", "name": "s", "schema": {"a": 1.0}}, "verbosity": "low"},
            tools=[TOOL, {"type": "web_search"}],
            tool_choice={
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "function", "name": "f"}],
            },
            reasoning={"effort": "low", "summary": "auto"},
            include=["reasoning.encrypted_content", "message.output_text.logprobs"],
            top_logprobs=2,
            truncation="auto",
            max_output_tokens=50,
            user="ann",
        )
    )
    prompt = gateway.router.prompts[-1]
    system, user, foreign = prompt.messages
    assert system.parts[0].text == "Be brief."
    assert json.loads(user.parts[0].extra.json) == {"prompt_cache_breakpoint": {"mode": "explicit"}}
    assert user.parts[1].image.detail == "low"
    assert user.parts[2].document.data == b"%PDF"
    assert foreign.parts[0].opaque.dialect == "responses"
    spec = prompt.spec
    assert (spec.max_output_tokens, spec.reasoning.effort) == (50, "low")
    assert spec.response_format.schema_json == '{"a":1.0}'
    assert [tool.extra.dialect for tool in spec.tools] == ["", "responses"]
    assert json.loads(spec.extra_json) == {
        "logprobs": True,
        "top_logprobs": 2,
        "verbosity": "low",
        "user": "ann",
        "tool_choice": {
            "type": "allowed_tools",
            "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "f"}}]},
        },
    }
    assert json.loads(spec.extras[0].json) == {"truncation": "auto", "reasoning": {"summary": "auto"}}
