from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]

from services.gateway.domain.keys import make_key
from services.gateway.domain.response_log import ResponseLog
from services.gateway.settings import Settings
from services.gateway.wiring import ORCHESTRATOR, PIPELINE, ROUTER, assemble
from services.kit.call import Call
from services.kit.errors import QuartetError
from services.kit.testing import KINDS, client_of
from tests.contract.gateway.neighbours import FakeKeys, FakeOrchestrator, FakePipeline, FakeRouter
from tests.doubles.responses import FakeResponses

PACKAGE = "quartet.gateway.v1"


@dataclass(slots=True, kw_only=True)
class Gateway:
    """The gateway's services as clients see them, and their neighbours."""

    router: FakeRouter
    pipeline: FakePipeline
    orchestrator: FakeOrchestrator
    keys: FakeKeys
    secret: str
    responses: FakeResponses = field(default_factory=FakeResponses)
    log: ResponseLog | None = None
    clients: dict[str, Any] = field(default_factory=dict)

    @property
    def native(self) -> Any:
        return self.clients["GatewayService"]

    def call(self, **headers: str) -> Call:
        metadata = {"authorization": f"Bearer {self.secret}"}
        metadata |= {name.replace("_", "-"): value for name, value in headers.items()}
        return Call.root(timeout_s=10, metadata=metadata)

    async def post(self, service: str, method: str, body: bytes, call: Call | None = None) -> list[HttpBody]:
        """Every body of an HTTP answer."""
        send = getattr(self.clients[service], method)
        return [answer async for answer in send(HttpBody(data=body), call or self.call())]

    async def chat(self, body: bytes, call: Call | None = None) -> list[HttpBody]:
        return await self.post("OpenAIService", "create_chat_completion", body, call)

    async def respond(self, body: bytes, call: Call | None = None) -> list[HttpBody]:
        return await self.post("OpenAIService", "create_response", body, call)

    async def message(self, body: bytes, call: Call | None = None) -> list[HttpBody]:
        return await self.post("AnthropicService", "create_message", body, call)


async def read_to_error(stream: AsyncIterator[Any]) -> tuple[list[Any], QuartetError | None]:
    """What a stream sent, and the error with which it ended."""
    seen: list[Any] = []
    try:
        async for item in stream:
            seen.append(item)  # noqa: PERF401 - a comprehension would lose what came before the error
    except QuartetError as error:
        return seen, error
    return seen, None


@pytest_asyncio.fixture(params=KINDS)
async def gateway(request: pytest.FixtureRequest) -> AsyncIterator[Gateway]:
    """Every neighbour in the same process, or every one behind a server of its own."""
    async with make_gateway(request.param, FakeRouter()) as gateway:
        yield gateway


@asynccontextmanager
async def make_gateway(kind: str, router: FakeRouter) -> AsyncIterator[Gateway]:
    """A gateway whose clients and neighbours are of that kind."""
    key, secret = make_key(tenant="acme", scopes=frozenset({"*"}))
    gateway = Gateway(
        router=router,
        pipeline=FakePipeline(),
        orchestrator=FakeOrchestrator(),
        keys=FakeKeys(key),
        secret=secret,
    )
    async with AsyncExitStack() as stack:
        routing = await stack.enter_async_context(client_of(kind, ROUTER, router))
        pipeline = await stack.enter_async_context(client_of(kind, PIPELINE, gateway.pipeline))
        orchestrator = await stack.enter_async_context(client_of(kind, ORCHESTRATOR, gateway.orchestrator))
        log = ResponseLog(gateway.responses, max_detached=16, timeout_s=60, max_bytes=100_000)
        stack.push_async_callback(log.close)
        gateway.log = log
        for binding in assemble(Settings(), gateway.keys, routing, pipeline, orchestrator, responses=log):
            client = await stack.enter_async_context(client_of(kind, binding.service_name, binding.service))
            gateway.clients[binding.service_name.removeprefix(f"{PACKAGE}.")] = client
        yield gateway
