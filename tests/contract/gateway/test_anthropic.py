import json
from typing import Any

import pytest
from anthropic.types import Message, ModelInfo, RawMessageStreamEvent
from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]
from pydantic import TypeAdapter

from quartet.common.v1 import generation_pb2, message_pb2
from quartet.gateway.v1 import openai_pb2
from services.kit.errors import NotFound, PermissionDenied, QuartetError, ResourceExhausted, Unavailable
from tests.contract.gateway.conftest import Gateway
from tests.contract.gateway.neighbours import MODEL, complete

STATUS = "x-quartet-status"
EVENTS: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)


def body(**members: Any) -> bytes:
    message = {"role": "user", "content": "Hi"}
    return json.dumps({"model": "auto", "max_tokens": 50, "messages": [message], **members}).encode()


def value(answers: list[HttpBody]) -> Any:
    assert len(answers) == 1
    return json.loads(answers[0].data)


def events_of(answers: list[HttpBody]) -> list[dict[str, Any]]:
    """The data of every event, whose name must be its type."""
    found = []
    for event in b"".join(answer.data for answer in answers).decode().split("\n\n")[:-1]:
        name, data = event.split("\n", 1)
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def replay(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The blocks that a client puts together; every event must be one that the stock SDK knows."""
    blocks: list[dict[str, Any]] = []
    for event in events:
        if event["type"] == "ping":
            continue
        EVENTS.validate_python(event)
        if event["type"] == "content_block_start":
            assert event["index"] == len(blocks)
            blocks.append(dict(event["content_block"], json="", citations=[]))
        elif event["type"] == "content_block_delta":
            block, delta = blocks[event["index"]], event["delta"]
            match delta["type"]:
                case "text_delta":
                    block["text"] += delta["text"]
                case "thinking_delta":
                    block["thinking"] += delta["thinking"]
                case "signature_delta":
                    block["signature"] += delta["signature"]
                case "input_json_delta":
                    block["json"] += delta["partial_json"]
                case "citations_delta":
                    block["citations"].append(delta["citation"])
    return blocks


async def test_a_whole_answer_is_a_message_that_tells_its_cost(gateway: Gateway) -> None:
    call = gateway.call()
    found = value(await gateway.message(body(), call))
    message = Message.model_validate(found)
    assert message.content[0].model_dump()["text"] == "Hello there"
    assert (message.stop_reason, message.model) == ("end_turn", MODEL)
    assert (message.usage.input_tokens, message.usage.output_tokens) == (11, 4)
    assert found["usage"]["quartet"]["cost_micro_usd"] == 42
    assert call.response_headers["x-quartet-rule"] == "greeting"


async def test_a_key_in_anthropics_header_is_as_good(gateway: Gateway) -> None:
    call = gateway.call()
    call.metadata = {"x-api-key": gateway.secret}
    assert value(await gateway.message(body(), call))["type"] == "message"


async def test_a_stream_runs_from_message_start_to_message_stop(gateway: Gateway) -> None:
    events = events_of(await gateway.message(body(stream=True)))
    assert [event["type"] for event in events] == [
        "message_start",
        "ping",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert replay(events)[0]["text"] == "Hello there"
    assert events[0]["message"]["usage"]["input_tokens"] > 0
    assert events[-2]["delta"]["stop_reason"] == "end_turn"
    assert events[-2]["usage"]["quartet"]["cost_micro_usd"] == 42


async def test_thinking_text_and_tools_are_blocks_of_their_own(gateway: Gateway) -> None:
    gateway.router.deltas = [
        generation_pb2.Delta(thinking=message_pb2.Thinking(text="Hm"), part_index=0),
        generation_pb2.Delta(thinking=message_pb2.Thinking(signature="sig"), part_index=0),
        generation_pb2.Delta(thinking=message_pb2.Thinking(redacted_data="xyz"), part_index=1),
        generation_pb2.Delta(text="Let me see.", part_index=2),
        generation_pb2.Delta(tool_call=message_pb2.ToolCall(id="t1", name="weather"), part_index=3),
        generation_pb2.Delta(
            tool_call=message_pb2.ToolCall(name="weather", arguments_json='{"a":'), part_index=3
        ),
        generation_pb2.Delta(
            tool_call=message_pb2.ToolCall(name="weather", arguments_json="1.0}"), part_index=3
        ),
        generation_pb2.Delta(
            tool_call=message_pb2.ToolCall(id="t2", name="time", arguments_json="{}"), part_index=4
        ),
    ]
    gateway.router.completion = complete(finish=generation_pb2.FINISH_REASON_TOOL_CALLS)
    events = events_of(await gateway.message(body(stream=True)))
    thinking, redacted, text, weather, time = replay(events)
    assert (thinking["thinking"], thinking["signature"]) == ("Hm", "sig")
    assert (redacted["type"], redacted["data"]) == ("redacted_thinking", "xyz")
    assert text["text"] == "Let me see."
    assert (weather["id"], weather["json"]) == ("t1", '{"a":1.0}')
    assert (time["id"], time["json"]) == ("t2", "{}")
    assert events[-2]["delta"]["stop_reason"] == "tool_use"


async def test_a_whole_answer_holds_thinking_and_tools(gateway: Gateway) -> None:
    gateway.router.completion = complete(
        message_pb2.Part(thinking=message_pb2.Thinking(text="Hm", signature="sig")),
        message_pb2.Part(thinking=message_pb2.Thinking(redacted_data="xyz")),
        message_pb2.Part(tool_call=message_pb2.ToolCall(id="t1", name="w", arguments_json='{"b":1,"a":2}')),
    )
    message = Message.model_validate(value(await gateway.message(body())))
    thinking, redacted, tool = (block.model_dump() for block in message.content)
    assert (thinking["thinking"], thinking["signature"]) == ("Hm", "sig")
    assert redacted["data"] == "xyz"
    assert list(tool["input"].items()) == [("b", 1), ("a", 2)]


async def test_citations_are_char_locations(gateway: Gateway) -> None:
    message = Message.model_validate(value(await gateway.message(body(model="rag/docs"))))
    cited = message.content[0].model_dump()["citations"][0]
    assert (cited["type"], cited["cited_text"]) == ("char_location", "The moon is far.")
    assert (cited["start_char_index"], cited["end_char_index"]) == (10, 26)
    assert cited["document_id"] == "d1"

    blocks = replay(events_of(await gateway.message(body(model="rag/docs", stream=True))))
    assert blocks[0]["text"] == "The moon is far."
    assert blocks[0]["citations"][0]["document_id"] == "d1"


async def test_cached_tokens_stand_apart(gateway: Gateway) -> None:
    usage = generation_pb2.Usage(
        input_tokens=100, cached_input_tokens=60, cache_write_tokens=30, output_tokens=1
    )
    gateway.router.completion.usage.CopyFrom(usage)
    found = value(await gateway.message(body()))["usage"]
    assert (found["input_tokens"], found["cache_read_input_tokens"]) == (10, 60)
    assert found["cache_creation_input_tokens"] == 30


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (PermissionDenied("x"), 403, "permission_error"),
        (NotFound("x"), 404, "not_found_error"),
        (ResourceExhausted("x"), 429, "rate_limit_error"),
        (Unavailable("x"), 529, "overloaded_error"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_errors_have_anthropics_shape_and_status(
    gateway: Gateway, error: QuartetError, status: int, kind: str, stream: bool
) -> None:
    gateway.router.error = error
    call = gateway.call()
    found = value(await gateway.message(body(stream=stream), call))
    assert (found["type"], found["error"]["type"]) == ("error", kind)
    assert found["request_id"] == call.response_headers["x-request-id"]
    assert call.response_headers[STATUS] == str(status)


async def test_an_error_amid_a_stream_is_its_last_event(gateway: Gateway) -> None:
    gateway.router.error, gateway.router.error_after = Unavailable("gone"), 1
    events = events_of(await gateway.message(body(stream=True)))
    assert events[-1]["error"]["type"] == "overloaded_error"
    assert "message_stop" not in [event["type"] for event in events]


async def test_tokens_are_counted_without_a_limit_on_the_answer(gateway: Gateway) -> None:
    send = json.dumps({"model": "auto", "messages": [{"role": "user", "content": "hello world"}]}).encode()
    found = value(await gateway.post("AnthropicService", "count_message_tokens", send))
    assert found == {"input_tokens": 9}
    assert not gateway.router.calls


async def test_models_parse_as_anthropics_own(gateway: Gateway) -> None:
    call = gateway.call(anthropic_version="2023-06-01")
    request = openai_pb2.GetOpenAIModelRequest(model=MODEL)
    client = gateway.clients["OpenAIService"]
    found = value([answer async for answer in client.get_open_ai_model(request, call)])
    model = ModelInfo.model_validate(found)
    assert (model.id, model.max_input_tokens, model.lifecycle) == (MODEL, 1000, "deprecated")


async def test_calls_that_a_stream_cannot_show_end_it_with_an_error(gateway: Gateway) -> None:
    call = message_pb2.ToolCall
    gateway.router.deltas = [
        generation_pb2.Delta(tool_call=call(id="c1", name="f", arguments_json="{"), part_index=0),
        generation_pb2.Delta(tool_call=call(id="c2", name="g", arguments_json="{}"), part_index=1),
        generation_pb2.Delta(tool_call=call(arguments_json="}"), part_index=0),
    ]
    answers = await gateway.message(body(stream=True))
    last = b"".join(answer.data for answer in answers).decode().rstrip().rpartition("data: ")[2]
    assert json.loads(last)["error"]["quartet"]["reason"] == "CALLS_INTERLEAVED"


async def test_a_beta_header_goes_on_unless_it_is_no_list_of_names(gateway: Gateway) -> None:
    await gateway.message(body(), gateway.call(anthropic_beta="context-1m-2026-08-07,b"))
    (extra,) = gateway.router.prompts[-1].spec.extras
    assert (extra.dialect, extra.json) == ("anthropic", '{"anthropic-beta":"context-1m-2026-08-07,b"}')
    call = gateway.call(anthropic_beta="a\x7fb")
    await gateway.message(body(), call)
    assert call.response_headers["x-quartet-status"] == "400"
