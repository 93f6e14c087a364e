import base64
import json
import struct
from typing import Any

import pytest
from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]
from openai.types import CreateEmbeddingResponse, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from quartet.common.v1 import generation_pb2, message_pb2
from quartet.gateway.v1 import openai_pb2
from services.kit.errors import (
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    QuartetError,
    ResourceExhausted,
    Unavailable,
)
from tests.contract.gateway.conftest import Gateway
from tests.contract.gateway.neighbours import CITATION, MODEL, complete

STATUS = "x-quartet-status"


def body(**members: Any) -> bytes:
    return json.dumps({"model": "auto", "messages": [{"role": "user", "content": "Hi"}], **members}).encode()


def value(answers: list[HttpBody]) -> Any:
    assert len(answers) == 1
    assert answers[0].content_type == "application/json"
    return json.loads(answers[0].data)


def data_of(answers: list[HttpBody]) -> list[Any]:
    """The JSON of every event; the end mark must be there, and last."""
    assert {answer.content_type for answer in answers} == {"text/event-stream"}
    events = b"".join(answer.data for answer in answers).decode().split("\n\n")
    assert events.pop() == ""
    assert events.pop() == "data: [DONE]"
    return [json.loads(event.removeprefix("data: ")) for event in events]


def chunks_of(answers: list[HttpBody]) -> list[ChatCompletionChunk]:
    return [ChatCompletionChunk.model_validate(event) for event in data_of(answers)]


async def test_a_whole_answer_is_a_chat_completion_that_tells_its_cost(gateway: Gateway) -> None:
    call = gateway.call()
    found = value(await gateway.chat(body(), call))
    completion = ChatCompletion.model_validate(found)
    assert completion.choices[0].message.content == "Hello there"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.model == MODEL
    assert completion.usage is not None
    assert completion.usage.total_tokens == 15
    assert found["usage"]["quartet"]["cost_micro_usd"] == 42
    assert found["usage"]["quartet"]["route"] == "simple_faq"
    assert call.response_headers["x-quartet-model"] == MODEL
    assert STATUS not in call.response_headers


async def test_a_conversation_and_its_labels_come_in_headers_and_what_became_of_it_is_told(
    gateway: Gateway,
) -> None:
    gateway.router.decision.session = f"stays on {MODEL}"
    call = gateway.call(x_quartet_session="chat 7", x_quartet_labels="team=search")
    found = value(await gateway.chat(body(), call))
    prompt = gateway.router.prompts[0]
    assert (prompt.session, dict(prompt.labels)) == ("chat 7", {"team": "search"})
    assert found["usage"]["quartet"]["session"] == f"stays on {MODEL}"


async def test_a_stream_has_a_role_text_a_finish_and_its_cost(gateway: Gateway) -> None:
    call = gateway.call()
    answers = await gateway.chat(body(stream=True), call)
    chunks = chunks_of(answers)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello there"
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None, None, None, "stop"]
    assert data_of(answers)[-1]["usage"]["quartet"]["cost_micro_usd"] == 42
    assert call.response_headers["x-quartet-route"] == "simple_faq"


async def test_usage_comes_alone_when_it_was_asked_for(gateway: Gateway) -> None:
    answers = await gateway.chat(body(stream=True, stream_options={"include_usage": True}))
    chunks = chunks_of(answers)
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.prompt_tokens == 11
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert data_of(answers)[-1]["usage"]["quartet"]["cost_micro_usd"] == 42


async def test_tool_calls_come_whole_and_in_pieces(gateway: Gateway) -> None:
    call = message_pb2.ToolCall(id="call_1", name="weather", arguments_json='{"city":"Oslo"}')
    gateway.router.completion = complete(
        message_pb2.Part(tool_call=call), finish=generation_pb2.FINISH_REASON_TOOL_CALLS
    )
    completion = ChatCompletion.model_validate(value(await gateway.chat(body())))
    assert completion.choices[0].finish_reason == "tool_calls"
    assert completion.choices[0].message.content is None
    made = completion.choices[0].message.tool_calls or []
    assert made[0].model_dump()["function"] == {"name": "weather", "arguments": '{"city":"Oslo"}'}

    gateway.router.deltas = [
        generation_pb2.Delta(tool_call=message_pb2.ToolCall(id="call_1", name="weather"), part_index=1),
        generation_pb2.Delta(
            tool_call=message_pb2.ToolCall(name="weather", arguments_json='{"city"'), part_index=1
        ),
        generation_pb2.Delta(
            tool_call=message_pb2.ToolCall(name="weather", arguments_json=':"Oslo"}'), part_index=1
        ),
        generation_pb2.Delta(tool_call=message_pb2.ToolCall(id="call_2", name="time"), part_index=2),
    ]
    deltas = [
        piece
        for chunk in chunks_of(await gateway.chat(body(stream=True)))
        for piece in chunk.choices[0].delta.tool_calls or []
    ]
    assert [(piece.index, piece.id) for piece in deltas] == [
        (0, "call_1"),
        (0, None),
        (0, None),
        (1, "call_2"),
    ]
    pieces = [piece.function.arguments or "" for piece in deltas if piece.index == 0 and piece.function]
    assert "".join(pieces) == '{"city":"Oslo"}'


async def test_citations_are_annotations(gateway: Gateway) -> None:
    completion = ChatCompletion.model_validate(value(await gateway.chat(body(model="rag/docs"))))
    annotations = completion.choices[0].message.annotations or []
    cited = annotations[0].url_citation.model_dump()
    assert cited["url"] == "/api/v1/documents/d1"
    assert (cited["start_index"], cited["end_index"]) == (0, 16)
    assert (cited["quote"], cited["start_char"], cited["end_char"]) == ("The moon is far.", 10, 26)

    events = data_of(await gateway.chat(body(model="rag/docs", stream=True)))
    streamed = [event["choices"][0]["delta"].get("annotations") for event in events]
    assert streamed[-2] == [annotation.model_dump() for annotation in annotations]


async def test_citations_of_a_streaming_model_come_before_the_finish(gateway: Gateway) -> None:
    gateway.router.deltas.append(generation_pb2.Delta(citation=CITATION))
    events = data_of(await gateway.chat(body(stream=True)))
    assert events[-2]["choices"][0]["delta"]["annotations"][0]["url_citation"]["document_id"] == "d1"


@pytest.mark.parametrize(
    ("error", "status", "kind", "code"),
    [
        (InvalidArgument.field("temperature", "too hot"), 400, "invalid_request_error", "invalid_argument"),
        (
            FailedPrecondition("x", reason="NO_MODEL_CONFIGURED"),
            400,
            "invalid_request_error",
            "no_model_configured",
        ),
        (NotFound("x", reason="MODEL_NOT_FOUND"), 404, "invalid_request_error", "model_not_found"),
        (ResourceExhausted("x", reason="BUDGET_EXHAUSTED"), 429, "rate_limit_error", "budget_exhausted"),
        (Internal("x"), 500, "server_error", "internal"),
        (Unavailable("x", reason="PROVIDER_FAILED"), 503, "server_error", "provider_failed"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_errors_have_openais_shape_and_status(
    gateway: Gateway, error: QuartetError, status: int, kind: str, code: str, stream: bool
) -> None:
    gateway.router.error = error
    call = gateway.call()
    found = value(await gateway.chat(body(stream=stream), call))["error"]
    assert (found["type"], found["code"]) == (kind, code)
    assert call.response_headers[STATUS] == str(status)
    assert found["param"] == ("temperature" if isinstance(error, InvalidArgument) else None)


async def test_an_error_amid_a_stream_is_its_last_event(gateway: Gateway) -> None:
    gateway.router.error, gateway.router.error_after = Unavailable("gone", reason="PROVIDER_FAILED"), 1
    call = gateway.call()
    events = data_of(await gateway.chat(body(stream=True), call))
    assert events[-1]["error"]["code"] == "provider_failed"
    assert STATUS not in call.response_headers


async def test_time_that_runs_out_amid_a_stream_is_its_last_event(gateway: Gateway) -> None:
    import asyncio

    gateway.router.pause = asyncio.Event()
    events = data_of(await gateway.chat(body(stream=True), gateway.call(x_quartet_timeout_ms="300")))
    assert events[-1]["error"]["code"] == "deadline_exceeded"
    await asyncio.wait_for(gateway.router.closed.wait(), 1)


async def test_a_refusal_says_when_to_come_back(gateway: Gateway) -> None:
    gateway.router.error = ResourceExhausted("x", reason="RATE_LIMITED", retry_after_s=2.4)
    call = gateway.call()
    await gateway.chat(body(), call)
    assert call.response_headers["retry-after"] == "3"


async def test_a_wrong_key_is_a_401(gateway: Gateway) -> None:
    call = gateway.call(authorization="Bearer sk-nonsense")
    found = value(await gateway.chat(body(), call))["error"]
    assert call.response_headers[STATUS] == "401"
    assert found["code"] == "invalid_api_key"


async def test_too_much_input_has_openais_own_code(gateway: Gateway) -> None:
    call = gateway.call()
    text = "one two three " * 80_000
    answers = await gateway.chat(body(model="gpt-4o", messages=[{"role": "user", "content": text}]), call)
    assert value(answers)["error"]["code"] == "context_length_exceeded"
    assert call.response_headers[STATUS] == "400"
    assert not gateway.router.calls


async def test_models_are_listed_in_the_dialect_that_is_asked_in(gateway: Gateway) -> None:
    client = gateway.clients["OpenAIService"]
    request = openai_pb2.ListOpenAIModelsRequest()
    found = value([answer async for answer in client.list_open_ai_models(request, gateway.call())])
    models = [Model.model_validate(model) for model in found["data"]]
    assert [model.id for model in models][:3] == ["auto", "route/simple_faq", MODEL]
    assert models[2].shutdown_date == "2030-01-14"
    (longer,) = found["data"][2]["quartet"]["longer_prices"]
    assert (longer["above_input_tokens"], longer["input_micro_usd_per_mtok"]) == (500, 200_000)
    assert "longer_prices" not in found["data"][0]["quartet"]

    call = gateway.call(anthropic_version="2023-06-01")
    found = value([answer async for answer in client.list_open_ai_models(request, call)])
    assert found["data"][2]["type"] == "model"
    assert found["has_more"] is False


async def test_one_model_is_found_by_name_or_alias(gateway: Gateway) -> None:
    client = gateway.clients["OpenAIService"]
    for name in ("rag/docs", "luna"):
        request = openai_pb2.GetOpenAIModelRequest(model=name)
        found = value([answer async for answer in client.get_open_ai_model(request, gateway.call())])
        assert found["id"] in ("rag/docs", MODEL)
    call = gateway.call()
    request = openai_pb2.GetOpenAIModelRequest(model="gpt-0")
    found = value([answer async for answer in client.get_open_ai_model(request, call)])
    assert found["error"]["code"] == "model_not_found"
    assert call.response_headers[STATUS] == "404"


async def test_vectors_come_as_floats_or_as_base64(gateway: Gateway) -> None:
    send = {"model": "local/minilm", "input": ["abc", "a"]}
    answers = await gateway.post("OpenAIService", "create_embedding", json.dumps(send).encode())
    found = CreateEmbeddingResponse.model_validate(value(answers))
    assert [item.embedding for item in found.data] == [[3.0, 0.5], [1.0, 0.5]]

    send["encoding_format"] = "base64"
    answers = await gateway.post("OpenAIService", "create_embedding", json.dumps(send).encode())
    packed = base64.b64decode(value(answers)["data"][0]["embedding"])
    assert struct.unpack("<2f", packed) == (3.0, 0.5)


async def test_token_numbers_are_refused_clearly(gateway: Gateway) -> None:
    call = gateway.call()
    send = json.dumps({"model": "m", "input": [1, 2]}).encode()
    found = value(await gateway.post("OpenAIService", "create_embedding", send, call))["error"]
    assert found["param"] == "input"
    assert "must be text" in found["message"]
