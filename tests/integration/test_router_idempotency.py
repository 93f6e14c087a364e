"""One answer for an idempotency key, with a real Redis between two routers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio

from quartet.common.v1 import message_pb2 as message
from quartet.router.v1.router_pb2 import GenerateRequest
from services.kit.call import Call
from services.kit.errors import AlreadyExists
from services.kit.testing import client_of
from services.router.settings import Settings
from services.router.wiring import build
from tests.doubles.provider import Fault, ProviderDouble


@pytest_asyncio.fixture
async def routers(double: ProviderDouble, redis_url: str) -> AsyncIterator[list[Any]]:
    settings = Settings(openai_base_url=double.openai_url, redis_url=redis_url)
    async with AsyncExitStack() as stack:
        clients = []
        for _ in range(2):
            (binding,) = await stack.enter_async_context(build(settings))
            client = await stack.enter_async_context(
                client_of("remote", binding.service_name, binding.service)
            )
            clients.append(client)
        yield clients


def request(text: str = "hi", key: str = "run-1/step-1") -> GenerateRequest:
    asked = GenerateRequest()
    asked.prompt.messages.add(role=message.ROLE_USER).parts.add(text=text)
    asked.prompt.target.model = "gpt-6-luna"
    asked.prompt.idempotency_key = key
    return asked


async def test_two_routers_call_the_provider_once(routers: list[Any], double: ProviderDouble) -> None:
    double.script(fault=Fault(delay_s=0.3), times=None)
    calls = [router.generate(request(), Call.root(timeout_s=10, tenant="acme")) for router in routers * 3]
    answers = await asyncio.gather(*calls)
    assert double.calls() == 1
    assert all(answer == answers[0] for answer in answers)


async def test_a_call_whose_client_died_is_finished_and_its_answer_kept(
    routers: list[Any], double: ProviderDouble
) -> None:
    double.script(fault=Fault(delay_s=0.5), times=None)
    task = asyncio.create_task(routers[0].generate(request(), Call.root(timeout_s=10, tenant="acme")))
    await double.wait_calls(1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    answer = await routers[1].generate(request(), Call.root(timeout_s=10, tenant="acme"))
    assert answer.completion.message.parts[0].text == "You said: hi"
    assert double.calls() == 1
    assert not double.disconnects


async def test_a_key_is_bound_to_its_request_and_its_tenant(
    routers: list[Any], double: ProviderDouble
) -> None:
    await routers[0].generate(request(), Call.root(timeout_s=10, tenant="acme"))
    with pytest.raises(AlreadyExists):
        await routers[1].generate(request("something else"), Call.root(timeout_s=10, tenant="acme"))
    await routers[1].generate(request("something else"), Call.root(timeout_s=10, tenant="other"))
    assert double.calls() == 2
