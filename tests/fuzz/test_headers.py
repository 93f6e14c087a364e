"""Whatever headers come in, they are passed over, or refused as the client's own fault."""

import json
from collections.abc import Sequence

import grpc
import pytest
from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]
from hypothesis import strategies as st

from quartet.common.v1 import message_pb2
from quartet.gateway.v1 import gateway_pb2
from services.kit.binding import Rpc, rpcs_of
from tests.fuzz.bodies import CHATS, MESSAGES
from tests.fuzz.conftest import Gateway
from tests.fuzz.door import judge
from tests.fuzz.effort import attempt_all

NAMES = st.sampled_from(
    [
        "x-quartet-session",
        "x-quartet-labels",
        "x-quartet-priority",
        "x-quartet-budget-micro-usd",
        "x-quartet-timeout-ms",
        "x-quartet-tenant",
        "x-quartet-key-id",
        "x-quartet-models",
        "x-quartet-trace-id",
        "x-quartet-status",
        "idempotency-key",
        "cache-control",
        "traceparent",
        "tracestate",
        "x-request-id",
        "accept-encoding",
        "content-encoding",
        "anthropic-version",
        "anthropic-beta",
        "openai-organization",
        "authorization",
        "x-api-key",
        "x-forwarded-for",
        "grpc-accept-encoding",
        "x-evil",
    ]
)
SEEN = st.sampled_from(
    [
        *("", " ", "0", "1", "-1", "1e3", "NaN", "9" * 19, "9" * 20, "9" * 300),
        *("critical", "SHEDDABLE", "no-store", "gzip, br;q=x", "%00%0d%0a", "x" * 3_000),
        *(f"00-{'0' * 32}-{'0' * 16}-00", f"00-{'a' * 32}-{'b' * 16}-01", "00-zz-zz-zz"),
        *("' OR '1'='1", "Bearer ", "Bearer qk_000000000000_x"),
    ]
)
VALUES = SEEN | st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40)
HEADERS = st.lists(st.tuples(NAMES, VALUES), min_size=1, max_size=4)
BINARY_NAMES = st.sampled_from(["grpc-trace-bin", "x-quartet-tenant-bin", "x-evil-bin"])
BINARY = st.lists(st.tuples(BINARY_NAMES, st.binary(max_size=64)), max_size=1)


def rpc_of(name: str) -> Rpc:
    contract, _, method = name.partition("/")
    full = f"quartet.gateway.v1.{contract}"
    return next(rpc for rpc in rpcs_of(full) if rpc.name == f"{full}/{method}")


def request_of(rpc: Rpc) -> bytes:
    """A request that is answered."""
    if rpc.request_type is HttpBody:
        body = (CHATS if "Chat" in rpc.name else MESSAGES)[0]
        return bytes(HttpBody(data=json.dumps(body).encode()).SerializeToString())
    request = rpc.request_type()
    if isinstance(request, gateway_pb2.GenerateRequest | gateway_pb2.StreamGenerateRequest):
        turn = request.generation.messages.add(role=message_pb2.ROLE_USER)
        turn.parts.add(text="hello")
    return request.SerializeToString()


@pytest.mark.parametrize(
    "name",
    [
        "GatewayService/Generate",
        "GatewayService/StreamGenerate",
        "GatewayService/ListModels",
        "OpenAIService/CreateChatCompletion",
        "AnthropicService/CreateMessage",
        "KeyService/ListKeys",
    ],
)
async def test_no_header_is_our_fault(gateway: Gateway, name: str) -> None:
    rpc = rpc_of(name)
    request = request_of(rpc)

    async def attempt(drawn: tuple[Sequence[tuple[str, str]], Sequence[tuple[str, bytes]]]) -> None:
        texts, binary = drawn
        sent: list[tuple[str, str | bytes]] = [*texts, *binary]
        if not any(name in ("x-api-key", "authorization") for name, _ in texts):
            sent.append(("x-api-key", gateway.door.secret))
        outcome = await gateway.door.call(rpc, [request], sent)
        if outcome.kind not in ("DEADLINE_EXCEEDED", "504") or "x-quartet-timeout-ms" not in dict(texts):
            judge(outcome)

    await attempt_all(st.tuples(HEADERS, BINARY), attempt)


async def test_too_many_headers_are_refused_and_the_connection_lives_on(gateway: Gateway) -> None:
    rpc = rpc_of("GatewayService/ListModels")
    own = ("x-api-key", gateway.door.secret)
    flood = [(f"x-evil-{number}", "x" * 1000) for number in range(200)]
    outcome = await gateway.door.call(rpc, [b""], [own, *flood])
    assert outcome.error is not None
    assert outcome.error.status == grpc.StatusCode.RESOURCE_EXHAUSTED.name
    assert (await gateway.door.call(rpc, [b""])).is_answer
