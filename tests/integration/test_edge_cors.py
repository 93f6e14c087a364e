"""Browsers: nobody's pages may call, but for the origins that are listed."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from services.cli.stack.envoy import CORS_REQUEST_HEADERS
from tests.integration.edge import CHAT, GENERATE, Edge, frame, hello, run_edge

ORIGIN = "https://app.example"
PREFLIGHT = {
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type",
}
ALLOWED = "access-control-allow-origin"


@pytest_asyncio.fixture(scope="module")
async def closed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    async with run_edge(tmp_path_factory.mktemp("closed") / "home") as running:
        yield running


@pytest_asyncio.fixture(scope="module")
async def listed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    home = tmp_path_factory.mktemp("listed") / "home"
    async with run_edge(home, cors_origins=f"{ORIGIN}, http://localhost:3000") as running:
        yield running


async def preflight(edge: Edge, path: str, origin: str) -> tuple[int, dict[str, str]]:
    async with edge.http.options(f"{edge.url}{path}", headers={"origin": origin, **PREFLIGHT}) as answer:
        return answer.status, {name.lower(): value for name, value in answer.headers.items()}


@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/api/v1/models", GENERATE])
async def test_a_listed_origin_may_ask_any_path(listed: Edge, path: str) -> None:
    before = len(listed.gateway.seen)
    status, headers = await preflight(listed, path, ORIGIN)
    assert status == 200
    assert headers[ALLOWED] == ORIGIN
    assert headers["access-control-allow-headers"] == CORS_REQUEST_HEADERS
    assert "access-control-allow-credentials" not in headers
    assert len(listed.gateway.seen) == before


@pytest.mark.parametrize("origin", ["https://evil.example", f"{ORIGIN}.evil.example", "null"])
async def test_another_origin_may_not(listed: Edge, origin: str) -> None:
    status, headers = await preflight(listed, CHAT, origin)
    assert status == 404
    assert ALLOWED not in headers


async def test_by_default_no_origin_may(closed: Edge) -> None:
    status, headers = await preflight(closed, CHAT, ORIGIN)
    assert status == 404
    assert ALLOWED not in headers
    headers_sent = {"origin": ORIGIN, "content-type": "application/json"}
    async with closed.http.post(f"{closed.url}{CHAT}", data=b"{}", headers=headers_sent) as answer:
        assert answer.status == 200
        assert ALLOWED not in answer.headers


@pytest.mark.parametrize(
    ("path", "kind", "body"),
    [
        (CHAT, "application/json", b"{}"),
        (GENERATE, "application/grpc-web+proto", frame(hello())),
        ("/v1/nope", "application/json", b"{}"),
    ],
)
async def test_answers_and_refusals_can_be_read_by_a_listed_origins_pages(
    listed: Edge, path: str, kind: str, body: bytes
) -> None:
    headers = {"origin": ORIGIN, "content-type": kind}
    async with listed.http.post(f"{listed.url}{path}", data=body, headers=headers) as answer:
        assert answer.headers[ALLOWED] == ORIGIN
        assert "x-request-id" in answer.headers["access-control-expose-headers"]
