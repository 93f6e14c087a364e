"""Prompts that are too long are refused before the router is called, in every dialect's own words."""

import base64
import json
import struct
from typing import Any

import orjson
import pytest

from quartet.common.v1 import generation_pb2, message_pb2
from quartet.gateway.v1 import gateway_pb2
from services.gateway.adapters.http import STATUS
from services.gateway.domain.keys import make_key
from services.kit.errors import InvalidArgument, NotFound, PermissionDenied
from tests.contract.gateway.conftest import Gateway
from tests.contract.gateway.neighbours import MODEL

WINDOW = 1000
"""Of the fake router's model."""
LONG = "one two three " * WINDOW
PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 256, 256)
TOOL = {"name": "weather", "description": "now", "input_schema": {"properties": {"at": {"type": "string"}}}}


def generation(name: str, text: str) -> gateway_pb2.Generation:
    message = message_pb2.Message(role=message_pb2.ROLE_USER, parts=[message_pb2.Part(text=text)])
    return gateway_pb2.Generation(target=gateway_pb2.Target(name=name), messages=[message])


def chat(name: str, text: str, **members: Any) -> bytes:
    messages = [{"role": "user", "content": text}]
    return json.dumps({"model": name, "messages": messages, "max_tokens": 9, **members}).encode()


async def refuse(gateway: Gateway, name: str, text: str) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as caught:
        await gateway.native.generate(
            gateway_pb2.GenerateRequest(generation=generation(name, text)), gateway.call()
        )
    return caught.value


@pytest.mark.parametrize("name", [MODEL, "luna"])
async def test_beyond_the_models_window_no_model_is_called(gateway: Gateway, name: str) -> None:
    error = await refuse(gateway, name, LONG)
    assert error.reason == "CONTEXT_WINDOW_EXCEEDED"
    assert (error.metadata["limit"], error.metadata["model"]) == (str(WINDOW), name)
    assert int(error.metadata["count"]) == pytest.approx(3 * WINDOW, rel=0.01)
    assert f"{WINDOW:,}" in error.message
    assert not gateway.router.calls


async def test_what_just_fits_passes_and_one_token_more_does_not(gateway: Gateway) -> None:
    around = 4 + 3
    fits = " ".join(["one"] * (WINDOW - around))
    await gateway.native.generate(
        gateway_pb2.GenerateRequest(generation=generation(MODEL, fits)), gateway.call()
    )
    assert gateway.router.prompts[0].input_tokens == WINDOW
    error = await refuse(gateway, MODEL, f"{fits} one")
    assert (error.metadata["count"], error.metadata["exact"]) == (str(WINDOW + 1), "true")
    assert len(gateway.router.calls) == 1


async def test_the_smaller_of_window_and_keys_limit_names_the_refusal(gateway: Gateway) -> None:
    error = await refuse(gateway, "auto", LONG * 100)
    assert (error.reason, error.metadata["limit"]) == ("TOKEN_LIMIT_EXCEEDED", "200000")
    error = await refuse(gateway, MODEL, LONG * 100)
    assert error.reason == "CONTEXT_WINDOW_EXCEEDED"


async def test_the_router_is_asked_for_its_models_once_for_many_requests(gateway: Gateway) -> None:
    for _ in range(5):
        await refuse(gateway, MODEL, LONG)
        await gateway.native.generate(
            gateway_pb2.GenerateRequest(generation=generation("luna", "Hi")), gateway.call()
        )
    assert gateway.router.listings == 1


async def test_a_model_that_nobody_knows_is_the_routers_to_refuse(gateway: Gateway) -> None:
    await gateway.native.generate(
        gateway_pb2.GenerateRequest(generation=generation("mystery", LONG)), gateway.call()
    )
    assert gateway.router.prompts[0].target.model == "mystery"


@pytest.mark.parametrize("stream", [False, True])
async def test_openais_clients_see_its_own_code(gateway: Gateway, stream: bool) -> None:
    call = gateway.call()
    answers = await gateway.chat(chat(MODEL, LONG, stream=stream), call)
    error = orjson.loads(answers[0].data)["error"]
    assert call.response_headers[STATUS] == "400"
    assert (error["type"], error["code"]) == ("invalid_request_error", "context_length_exceeded")
    assert error["param"] == "messages"
    assert not gateway.router.calls


@pytest.mark.parametrize("stream", [False, True])
async def test_anthropics_clients_see_its_own_words(gateway: Gateway, stream: bool) -> None:
    call = gateway.call()
    answers = await gateway.message(chat(MODEL, LONG, stream=stream), call)
    error = orjson.loads(answers[0].data)["error"]
    assert call.response_headers[STATUS] == "400"
    assert error["type"] == "invalid_request_error"
    assert error["message"].startswith("prompt is too long: 30")
    assert f" tokens > {WINDOW} maximum" in error["message"]
    assert not gateway.router.calls


async def counted(gateway: Gateway, body: bytes) -> tuple[str, dict[str, Any]]:
    call = gateway.call()
    answers = await gateway.post("AnthropicService", "count_message_tokens", body, call)
    return call.response_headers.get(STATUS, "200"), orjson.loads(answers[0].data)


async def test_counts_are_those_of_admission_tools_and_pictures_included(gateway: Gateway) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(PNG).decode()}
    text = "one two three " * 200
    content = [{"type": "image", "source": source}, {"type": "text", "text": text}]
    body = json.dumps(
        {"model": MODEL, "messages": [{"role": "user", "content": content}], "tools": [TOOL]}
    ).encode()
    status, found = await counted(gateway, body)
    assert status == "200"
    await gateway.message(json.dumps(json.loads(body) | {"max_tokens": 9}).encode())
    assert gateway.router.prompts[0].input_tokens == found["input_tokens"]

    request = gateway_pb2.CountTokensRequest(model=MODEL)
    parts = [message_pb2.Part(image=message_pb2.Media(data=PNG)), message_pb2.Part(text=text)]
    request.messages.add(role=message_pb2.ROLE_USER).parts.extend(parts)
    request.spec.tools.append(
        generation_pb2.Tool(
            name="weather", description="now", input_schema_json=json.dumps(TOOL["input_schema"])
        )
    )
    native = await gateway.native.count_tokens(request, gateway.call())
    assert (native.input_tokens, native.exact) == (found["input_tokens"], False)


async def test_counting_for_a_model_that_is_not_there_is_a_404(gateway: Gateway) -> None:
    status, found = await counted(gateway, chat("mystery", "Hi"))
    assert (status, found["error"]["type"]) == ("404", "not_found_error")
    request = gateway_pb2.CountTokensRequest(model="mystery")
    request.messages.add(role=message_pb2.ROLE_USER).parts.add(text="Hi")
    with pytest.raises(NotFound):
        await gateway.native.count_tokens(request, gateway.call())


@pytest.mark.parametrize("name", ["auto", MODEL, "luna", "route/simple_faq", "rag/docs", "agent"])
async def test_counting_knows_every_name_that_is_listed(gateway: Gateway, name: str) -> None:
    status, found = await counted(gateway, chat(name, "Hi"))
    assert (status, found) == ("200", {"input_tokens": 8})


async def test_counting_keeps_to_the_keys_scopes(gateway: Gateway) -> None:
    key, secret = make_key(tenant="acme", scopes=frozenset({"model:other"}))
    gateway.keys.keys[key.id] = key
    request = gateway_pb2.CountTokensRequest(model=MODEL)
    request.messages.add(role=message_pb2.ROLE_USER).parts.add(text="Hi")
    with pytest.raises(PermissionDenied) as caught:
        await gateway.native.count_tokens(request, gateway.call(authorization=f"Bearer {secret}"))
    assert caught.value.metadata["scope"] == f"model:{MODEL}"
