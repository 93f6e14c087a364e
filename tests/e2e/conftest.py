from collections.abc import AsyncIterator

import anthropic
import openai
import pytest_asyncio

from services.kit.testing import OtlpReceiver, receive_otlp
from tests.doubles.provider import ProviderDouble
from tests.e2e.suite import Suite, run_suite


@pytest_asyncio.fixture(scope="session")
async def spans() -> AsyncIterator[OtlpReceiver]:
    async with receive_otlp() as receiver:
        yield receiver


@pytest_asyncio.fixture(scope="session")
async def suite(spans: OtlpReceiver) -> AsyncIterator[Suite]:
    """The suite as a newcomer has it: no provider key."""
    async with run_suite(OTEL_EXPORTER_OTLP_ENDPOINT=spans.endpoint) as running:
        await running.quartet("ingest", "docs")
        yield running


@pytest_asyncio.fixture(scope="session")
async def provider() -> AsyncIterator[ProviderDouble]:
    async with ProviderDouble() as double:
        yield double


@pytest_asyncio.fixture(scope="session")
async def configured_suite(provider: ProviderDouble, spans: OtlpReceiver) -> AsyncIterator[Suite]:
    """The suite with both vendors behind it, gateway and router in one process."""
    async with run_suite(
        OTEL_EXPORTER_OTLP_ENDPOINT=spans.endpoint,
        OPENAI_API_KEY="sk-test",
        OPENAI_BASE_URL=provider.openai_url,
        ANTHROPIC_API_KEY="sk-ant-test",
        ANTHROPIC_BASE_URL=provider.url,
        QUARTET_COLOCATE="gateway,router",
        GATEWAY_RESPONSE_LOG_TIMEOUT_S="2",  # a busy test machine is no store that is down
    ) as running:
        yield running


@pytest_asyncio.fixture(scope="session")
async def apart_suite(provider: ProviderDouble, spans: OtlpReceiver) -> AsyncIterator[Suite]:
    """The suite with both vendors behind it, every service in a process of its own."""
    async with run_suite(
        OTEL_EXPORTER_OTLP_ENDPOINT=spans.endpoint,
        OTEL_METRIC_EXPORT_INTERVAL="500",
        QUARTET_ACCOUNT_TTL_S="10",
        OPENAI_API_KEY="sk-test",
        OPENAI_BASE_URL=provider.openai_url,
        ANTHROPIC_API_KEY="sk-ant-test",
        ANTHROPIC_BASE_URL=provider.url,
    ) as running:
        await running.quartet("ingest", "docs/errors.md")
        yield running


@pytest_asyncio.fixture
async def openai_client(
    configured_suite: Suite, provider: ProviderDouble
) -> AsyncIterator[openai.AsyncOpenAI]:
    provider.reset()
    url, key = f"{configured_suite.url}/v1", configured_suite.api_key
    async with openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0) as client:
        yield client


@pytest_asyncio.fixture
async def anthropic_client(
    configured_suite: Suite, provider: ProviderDouble
) -> AsyncIterator[anthropic.AsyncAnthropic]:
    provider.reset()
    url, key = configured_suite.url, configured_suite.api_key
    async with anthropic.AsyncAnthropic(base_url=url, api_key=key, max_retries=0) as client:
        yield client
