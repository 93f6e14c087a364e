"""What the edge itself refuses: in a shape that each client reads, and before the gateway is asked."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import grpc
import pytest
import pytest_asyncio
from anthropic import AsyncAnthropic
from anthropic import RateLimitError as AnthropicRateLimitError
from openai import AsyncOpenAI
from openai import RateLimitError as OpenAIRateLimitError

from services.kit.errors import from_status
from services.kit.names import STATUS_DETAILS
from tests.integration.edge import CHAT, GENERATE, Edge, run_edge

JSON = {"content-type": "application/json"}
HOST = b"host: edge\r\n"
REQUESTS = 30
"""Of which two come within a second on a machine however busy."""


@pytest_asyncio.fixture(scope="module")
async def edge(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    async with run_edge(tmp_path_factory.mktemp("edge") / "home") as running:
        yield running


@pytest_asyncio.fixture(scope="module")
async def strict_edge(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    """One request a second; `stop` takes its gateway away."""
    async with run_edge(tmp_path_factory.mktemp("strict") / "home", client_rps=1) as running:
        yield running


def check_shape(status: int, body: Any, *, http: int, grpc_code: int, kind: str, reason: str) -> None:
    """OpenAI's SDK reads `error`, Anthropic's `type` and `error`, a native client google.rpc.Status."""
    assert status == http
    assert body["type"] == "error"
    assert body["error"]["type"] == kind
    assert body["error"]["code"] == reason.lower()
    assert body["error"]["message"] == body["message"]
    assert body["error"]["param"] is None
    assert body["code"] == grpc_code
    assert body["details"] == [
        {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "domain": "quartet", "reason": reason}
    ]


def split(answer: bytes) -> tuple[int, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


async def read(answer: aiohttp.ClientResponse) -> tuple[int, Any]:
    return answer.status, json.loads(await answer.read())


@pytest.mark.parametrize("path", ["/v1/nope", "/api/v1/nope", "/", "/v1/../etc/passwd", "//v1//chat/nope"])
async def test_an_unknown_path_is_named(edge: Edge, path: str) -> None:
    answer = await edge.send(b"POST %b HTTP/1.1\r\n%bconnection: close\r\n\r\n" % (path.encode(), HOST))
    check_shape(*split(answer), http=404, grpc_code=5, kind="not_found_error", reason="UNKNOWN_PATH")


@pytest.mark.parametrize(
    ("path", "method", "allowed"),
    [(CHAT, "GET", "POST"), ("/v1/messages?beta=true", "DELETE", "POST"), ("/v1/models/x", "PUT", "GET")],
)
async def test_a_method_that_a_path_does_not_take_is_refused(
    edge: Edge, path: str, method: str, allowed: str
) -> None:
    async with edge.http.request(method, f"{edge.url}{path}") as answer:
        said = await read(answer)
        assert answer.headers["allow"] == allowed
    check_shape(*said, http=405, grpc_code=12, kind="invalid_request_error", reason="METHOD_NOT_ALLOWED")


async def test_a_body_above_32_mib_is_refused(edge: Edge) -> None:
    before = len(edge.gateway.seen)
    body = io.BytesIO(b'{"pad": "' + b"x" * (32 << 20) + b'"}')
    async with edge.http.post(f"{edge.url}{CHAT}", data=body, headers=JSON) as answer:
        said = await read(answer)
        assert answer.headers["x-request-id"] == said[1]["request_id"]
    check_shape(*said, http=413, grpc_code=3, kind="request_too_large", reason="REQUEST_TOO_LARGE")
    assert len(edge.gateway.seen) == before


async def test_a_native_body_above_32_mib_is_refused_as_grpc_would(edge: Edge) -> None:
    """It is turned into a message piece by piece, and the message is too large."""
    before = len(edge.gateway.seen)
    start = b'{"generation": {"messages": [{"role": "ROLE_USER", "parts": [{"text": "'
    body = io.BytesIO(start + b"x" * (33 << 20) + b'"}]}]}}')
    async with edge.http.post(f"{edge.url}/api/v1/generate", data=body, headers=JSON) as answer:
        assert (await read(answer))[1]["code"] == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    assert len(edge.gateway.seen) == before


async def test_a_body_of_nearly_32_mib_passes(edge: Edge) -> None:
    body = b'{"pad": "' + b"x" * ((32 << 20) - 4096) + b'"}'
    async with edge.http.post(f"{edge.url}{CHAT}", data=io.BytesIO(body), headers=JSON) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    "headers",
    [b"big: %b\r\n" % (b"x" * 65_536), b"".join(b"h%d: 1\r\n" % number for number in range(101))],
    ids=["64 KiB", "101"],
)
async def test_headers_that_are_too_large_or_too_many_are_refused(edge: Edge, headers: bytes) -> None:
    answer = await edge.send(b"GET /v1/models HTTP/1.1\r\n%b%b\r\n" % (HOST, headers))
    check_shape(*split(answer), http=431, grpc_code=3, kind="request_too_large", reason="HEADERS_TOO_LARGE")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"NONSENSE\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\n%bx_quartet_tenant: evil\r\n\r\n" % HOST,
        b"POST /v1/models HTTP/1.1\r\n%bcontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n" % HOST,
        b"GET /v1/models HTTP/1.1\r\n\r\n",
    ],
    ids=["no request", "underscore", "two lengths", "no host"],
)
async def test_what_is_no_sound_request_is_refused(edge: Edge, request_bytes: bytes) -> None:
    before = len(edge.gateway.seen)
    check_shape(
        *split(await edge.send(request_bytes)),
        http=400,
        grpc_code=3,
        kind="invalid_request_error",
        reason="MALFORMED_REQUEST",
    )
    assert len(edge.gateway.seen) == before


async def test_a_client_above_its_rate_is_told_to_wait_and_costs_the_gateway_nothing(
    strict_edge: Edge,
) -> None:
    edge = strict_edge
    for path in ("/v1/models", "/api/v1/models", "/v1/messages"):
        limited = None
        for _ in range(REQUESTS):
            before = len(edge.gateway.seen)
            async with edge.http.get(f"{edge.url}{path}", headers={"x-api-key": path}) as answer:
                if answer.status == 429:
                    assert answer.headers["retry-after"] == "1"
                    limited = await read(answer)
                    assert answer.headers["x-request-id"] == limited[1]["request_id"]
                    assert len(edge.gateway.seen) == before
                    break
        assert limited
        check_shape(*limited, http=429, grpc_code=8, kind="rate_limit_error", reason="CLIENT_RATE_LIMITED")


async def test_the_stock_sdks_raise_their_own_errors(strict_edge: Edge) -> None:
    url = strict_edge.url
    openai = AsyncOpenAI(base_url=f"{url}/v1", api_key="qk_openai", max_retries=0)
    anthropic = AsyncAnthropic(base_url=url, api_key="qk_anthropic", max_retries=0)
    async with openai, anthropic:
        with pytest.raises(OpenAIRateLimitError) as of_openai:
            await asyncio.gather(*(openai.models.list() for _ in range(3)))
        assert of_openai.value.code == "client_rate_limited"
        assert of_openai.value.type == "rate_limit_error"
        assert of_openai.value.request_id
        with pytest.raises(AnthropicRateLimitError) as of_anthropic:
            await asyncio.gather(*(anthropic.models.list() for _ in range(3)))
        assert of_anthropic.value.body["error"]["type"] == "rate_limit_error"  # type: ignore[index]
        assert of_anthropic.value.request_id or of_anthropic.value.body["request_id"]  # type: ignore[index]


async def call(edge: Edge, path: str) -> grpc.aio.AioRpcError:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{edge.port}") as channel:
        method: Any = channel.unary_unary(path)
        for _ in range(REQUESTS):
            try:
                await method(b"", timeout=10, metadata=(("x-api-key", path),))
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
                    return error
    raise AssertionError("every call was let through")


def reason_of(error: grpc.aio.AioRpcError) -> tuple[str, float | None]:
    details = dict(error.trailing_metadata() or ()).get(STATUS_DETAILS, b"")
    assert isinstance(details, bytes)
    said = from_status(error.code().value[0], error.details() or "", details)
    return said.reason, said.retry_after_s


async def test_grpc_gets_a_status_with_the_reason_and_the_time_to_wait(strict_edge: Edge) -> None:
    error = await call(strict_edge, GENERATE)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "more requests per second" in (error.details() or "")
    assert reason_of(error) == ("CLIENT_RATE_LIMITED", 1.0)


@pytest.mark.parametrize("path", ["/no.such.Service/Method", f"{GENERATE}Nothing"])
async def test_grpc_gets_unimplemented_for_what_is_not_there(edge: Edge, path: str) -> None:
    error = await call(edge, path)
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "{" not in (error.details() or "")


async def test_a_gateway_that_is_away_is_reported_as_such(tmp_path_factory: pytest.TempPathFactory) -> None:
    async with run_edge(tmp_path_factory.mktemp("away") / "home") as edge:
        await edge.server.__aexit__(None, None, None)
        async with edge.http.get(f"{edge.url}/api/v1/models") as answer:
            assert answer.headers["retry-after"] == "1"
            said = await read(answer)
        check_shape(*said, http=503, grpc_code=14, kind="overloaded_error", reason="GATEWAY_UNAVAILABLE")
        error = await call(edge, GENERATE)
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert reason_of(error) == ("GATEWAY_UNAVAILABLE", 1.0)
