"""Which headers come in from outside, and the id that every answer bears."""

import base64
import uuid
from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio

from quartet.gateway.v1 import gateway_pb2
from tests.integration.edge import CHAT, GENERATE, Edge, frame, hello, run_edge

INTERNAL = ("x-quartet-tenant", "x-quartet-key-id", "x-quartet-models", "x-quartet-status")
ENVOYS = ("x-envoy-retry-on", "x-envoy-max-retries", "x-envoy-upstream-rq-timeout-ms", "x-envoy-internal")


@pytest_asyncio.fixture(scope="module")
async def edge(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    # Traced, since tracing once changed the ids of requests; nobody listens there, which Envoy endures.
    home = tmp_path_factory.mktemp("edge") / "home"
    async with run_edge(home, otlp_endpoint="http://127.0.0.1:9") as running:
        yield running


def forged(spell: str) -> dict[str, str]:
    return {getattr(name, spell)(): "1" for name in (*INTERNAL, *ENVOYS)}


def check_clean(metadata: dict[str, str]) -> None:
    assert not {*INTERNAL, *ENVOYS} & {name.lower() for name in metadata}
    assert metadata["x-quartet-session"] == "s1"


@pytest.mark.parametrize("spell", ["lower", "upper", "title"])
@pytest.mark.parametrize("kind", ["json", "grpc-web", "grpc-web-text"])
async def test_internal_headers_from_outside_are_dropped_in_any_case(
    edge: Edge, spell: str, kind: str
) -> None:
    headers = {**forged(spell), "X-Quartet-Session": "s1"}
    path, body, content_type = {
        "json": (CHAT, b"{}", "application/json"),
        "grpc-web": (GENERATE, frame(hello()), "application/grpc-web+proto"),
        "grpc-web-text": (GENERATE, base64.b64encode(frame(hello())), "application/grpc-web-text+proto"),
    }[kind]
    headers["content-type"] = content_type
    async with edge.http.post(f"{edge.url}{path}", data=body, headers=headers) as answer:
        assert answer.status == 200
        await answer.read()
    check_clean(edge.gateway.seen[-1])


async def test_internal_metadata_of_grpc_is_dropped(edge: Edge) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{edge.port}") as channel:
        generate = channel.unary_unary(
            GENERATE,
            request_serializer=gateway_pb2.GenerateRequest.SerializeToString,
            response_deserializer=gateway_pb2.GenerateResponse.FromString,
        )
        metadata = (*forged("lower").items(), ("x-quartet-session", "s1"))
        await generate(hello(), metadata=metadata, timeout=10)
    check_clean(edge.gateway.seen[-1])


@pytest.mark.parametrize("path", [CHAT, "/v1/nope"])
@pytest.mark.parametrize("own", ["mine", "0b5e9c52-7a2f-4f0c-9d38-6a1c2b7d4e90", ""])
async def test_a_requests_id_is_its_own_or_a_new_one_and_comes_back(edge: Edge, path: str, own: str) -> None:
    headers = {"content-type": "application/json", **({"x-request-id": own} if own else {})}
    async with edge.http.post(f"{edge.url}{path}", data=b"{}", headers=headers) as answer:
        told = answer.headers["x-request-id"]
    assert told == own if own else uuid.UUID(told)
    if path == CHAT:
        assert edge.gateway.seen[-1]["x-request-id"] == told
