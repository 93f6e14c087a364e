"""The router as a process of its own: it starts, answers, sends its spans and drains."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest_asyncio

from quartet.common.v1 import message_pb2 as message
from quartet.router.v1.router_pb2 import StreamGenerateRequest
from services.kit.call import Call
from services.kit.testing import OtlpReceiver, receive_otlp
from tests.doubles.provider import ProviderDouble
from tests.integration.processes import run_service

SERVICE = "quartet.router.v1.RouterService"


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[OtlpReceiver]:
    async with receive_otlp() as receiver:
        yield receiver


async def test_a_router_process_serves_traces_and_ends_with_zero(
    double: ProviderDouble, receiver: OtlpReceiver
) -> None:
    environment = {
        "OPENAI_BASE_URL": double.openai_url,
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
        "REDIS_URL": "",
    }
    async with run_service("router", SERVICE, **environment) as (process, client):
        request = StreamGenerateRequest()
        request.prompt.messages.add(role=message.ROLE_USER).parts.add(text="Hello there")
        async with aclosing(client.stream_generate(request, Call.root(timeout_s=20))) as events:
            last = [event async for event in events][-1]
        assert last.end.model == "gpt-6-luna"
        spans = {span.name: span for span in await receiver.wait_for(2, timeout_s=20)}
        chat, served = spans["chat gpt-6-luna"], spans[f"{SERVICE}/StreamGenerate"]
        assert chat.parent_id == served.span_id
        assert chat.service == "router"
        assert chat.attributes["quartet.cost_micro_usd"] == last.end.usage.cost_micro_usd
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 30) == 0
