"""The router as a process of its own: it starts, answers, sends its spans and drains."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest_asyncio

from quartet.common.v1 import message_pb2 as message
from quartet.router.v1.router_pb2 import StreamGenerateRequest
from services.kit.call import Call
from services.kit.client import remote
from services.kit.testing import OtlpReceiver, receive_otlp
from tests.doubles.provider import ProviderDouble

SERVICE = "quartet.router.v1.RouterService"
START_TIMEOUT_S = 60.0


@pytest_asyncio.fixture
async def double() -> AsyncIterator[ProviderDouble]:
    async with ProviderDouble() as double:
        yield double


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[OtlpReceiver]:
    async with receive_otlp() as receiver:
        yield receiver


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def wait_for_listener(port: int) -> None:
    async with asyncio.timeout(START_TIMEOUT_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.1)
            else:
                writer.close()
                return


async def test_a_router_process_serves_traces_and_ends_with_zero(
    double: ProviderDouble, receiver: OtlpReceiver
) -> None:
    port = free_port()
    environment = os.environ | {
        "ROUTER_PORT": str(port),
        "OPENAI_BASE_URL": double.openai_url,
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
        "REDIS_URL": "",
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "services.router", env=environment)
    try:
        await wait_for_listener(port)
        client = remote(SERVICE, f"127.0.0.1:{port}")
        request = StreamGenerateRequest()
        request.prompt.messages.add(role=message.ROLE_USER).parts.add(text="Hello there")
        async with aclosing(client.stream_generate(request, Call.root(timeout_s=20))) as events:
            last = [event async for event in events][-1]
        await client.close()
        assert last.end.model == "gpt-6-luna"
        spans = {span.name: span for span in await receiver.wait_for(2, timeout_s=20)}
        chat, served = spans["chat gpt-6-luna"], spans[f"{SERVICE}/StreamGenerate"]
        assert chat.parent_id == served.span_id
        assert chat.service == "router"
        assert chat.attributes["quartet.cost_micro_usd"] == last.end.usage.cost_micro_usd
    finally:
        process.send_signal(signal.SIGTERM)
        status = await asyncio.wait_for(process.wait(), 30)
    assert status == 0
