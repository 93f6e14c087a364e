"""Whatever body comes in, the dialects answer it, or refuse it as the client's own fault."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.gateway.domain.keys import make_key
from services.gateway.settings import Settings
from services.gateway.wiring import ORCHESTRATOR, PIPELINE, ROUTER, assemble
from services.kit.call import Call
from services.kit.client import local
from tests.contract.gateway.neighbours import FakeKeys, FakeOrchestrator, FakePipeline, FakeRouter

STATUS = "x-quartet-status"
REQUESTS: dict[str, dict[str, Any]] = {
    "OpenAIService.create_chat_completion": {
        "model": "auto",
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "x"}], "name": "ann"},
            {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "1", "content": "y"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        "tool_choice": "auto",
        "max_tokens": 5,
        "stop": ["a"],
        "stream": False,
    },
    "AnthropicService.create_message": {
        "model": "rag/docs",
        "max_tokens": 5,
        "system": "s",
        "messages": [
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "f", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "y"}]},
        ],
        "thinking": {"type": "enabled", "budget_tokens": 5},
    },
    "AnthropicService.count_message_tokens": {
        "model": "auto",
        "messages": [{"role": "user", "content": "x"}],
    },
    "OpenAIService.create_embedding": {"model": "m", "input": ["x"], "dimensions": 2},
}
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=300)
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@pytest_asyncio.fixture(scope="module")
async def send() -> AsyncIterator[Any]:
    """Posts a body through the contract, rules of the protos included, and gives the HTTP status."""
    key, secret = make_key(tenant="acme", scopes=frozenset({"*"}))
    neighbours = (
        local(ROUTER, FakeRouter()),
        local(PIPELINE, FakePipeline()),
        local(ORCHESTRATOR, FakeOrchestrator()),
    )
    services = {
        binding.service_name.rpartition(".")[2]: local(binding.service_name, binding.service)
        for binding in assemble(Settings(), FakeKeys(key), *neighbours)
    }

    async def post(method: str, body: bytes) -> int:
        service, _, name = method.partition(".")
        call = Call.root(timeout_s=10, metadata={"x-api-key": secret})
        answers = [answer async for answer in getattr(services[service], name)(HttpBody(data=body), call)]
        assert answers
        return int(call.response_headers.get(STATUS, "200"))

    yield post


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place within a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for name, inner in items for place in places(inner, (*at, name)))]


def replaced(value: Any, at: tuple[Any, ...], new: Any) -> Any:
    if not at:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[at[0]] = replaced(copy[at[0]], at[1:], new)
    return copy


@pytest.mark.parametrize("method", REQUESTS)
@given(data=st.data())
@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_a_body_with_anything_anywhere_is_never_our_fault(
    send: Any, method: str, data: st.DataObject
) -> None:
    request = REQUESTS[method]
    body = replaced(request, data.draw(st.sampled_from(places(request))), data.draw(JSON))
    assert await send(method, json.dumps(body).encode()) in (200, 400)


@pytest.mark.parametrize("method", REQUESTS)
async def test_the_bodies_themselves_are_answered(send: Any, method: str) -> None:
    assert await send(method, json.dumps(REQUESTS[method]).encode()) == 200
