from collections.abc import AsyncIterator

import anthropic
import openai
import pytest

from tests.doubles.provider import ProviderDouble

PATIENCE_S = 60
"""Of the clients for anything; their own five seconds for a connection are few on a busy machine."""


@pytest.fixture
async def double() -> AsyncIterator[ProviderDouble]:
    async with ProviderDouble() as double:
        yield double


@pytest.fixture
async def gpt(double: ProviderDouble) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=double.openai_url, api_key="sk-any", max_retries=0, timeout=PATIENCE_S
    ) as client:
        yield client


@pytest.fixture
async def claude(double: ProviderDouble) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(
        base_url=double.url, api_key="sk-ant-any", max_retries=0, timeout=PATIENCE_S
    ) as client:
        yield client
