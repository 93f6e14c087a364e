"""A router in front of the provider double, reached as an object and over gRPC."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio

from quartet.common.v1 import message_pb2
from quartet.router.v1 import router_pb2 as pb
from services.kit.call import Call
from services.kit.testing import KINDS, client_of
from services.router.settings import Settings
from services.router.wiring import build
from tests.doubles.provider import ProviderDouble


@pytest_asyncio.fixture(scope="session")
async def session_double() -> AsyncIterator[ProviderDouble]:
    async with ProviderDouble() as double:
        yield double


@pytest.fixture
def double(session_double: ProviderDouble) -> ProviderDouble:
    """The provider double without memory of other tests."""
    session_double.reset()
    return session_double


@pytest_asyncio.fixture(scope="session")
async def routers(session_double: ProviderDouble) -> AsyncIterator[dict[str, Any]]:
    """Clients of one router with both vendors configured, by kind."""
    settings = Settings(
        openai_base_url=session_double.openai_url,
        anthropic_base_url=session_double.url,
        # What one test breaks must not cool down for the next.
        breaker_failures=1000,
        breaker_min_calls=100_000,
        min_retries_per_s=1000,
    )
    async with AsyncExitStack() as stack:
        (binding,) = await stack.enter_async_context(build(settings))
        yield {
            kind: await stack.enter_async_context(client_of(kind, binding.service_name, binding.service))
            for kind in KINDS
        }


@pytest.fixture(params=KINDS)
def router(request: pytest.FixtureRequest, routers: dict[str, Any]) -> Any:
    return routers[request.param]


@pytest_asyncio.fixture(scope="session")
async def keyless_router() -> AsyncIterator[Any]:
    """A router for which no provider is configured."""
    settings = Settings(openai_api_key="", openai_base_url="", anthropic_api_key="", anthropic_base_url="")
    async with (
        build(settings) as (binding,),
        client_of("remote", binding.service_name, binding.service) as client,
    ):
        yield client


@pytest.fixture
def call() -> Call:
    return Call.root(timeout_s=20, tenant="acme")


Ask = Callable[..., pb.Prompt]


@pytest.fixture
def ask() -> Ask:
    """Makes a prompt of one user message; a keyword `model` or `route` names the target."""

    def make(text: str, *, model: str = "", route: str = "", **fields: Any) -> pb.Prompt:
        turn = message_pb2.Message(role=message_pb2.ROLE_USER, parts=[message_pb2.Part(text=text)])
        prompt = pb.Prompt(messages=[turn], **fields)
        if model:
            prompt.target.model = model
        if route:
            prompt.target.route = route
        return prompt

    return make
