"""A prompt beyond its model's window, through the edge: refused before anything is asked of the router."""

import asyncio

import aiohttp
import pytest
from anthropic import AsyncAnthropic
from anthropic import BadRequestError as AnthropicBadRequest
from openai import AsyncOpenAI, BadRequestError

from services.kit.testing import OtlpReceiver
from tests.doubles.provider import ProviderDouble
from tests.e2e.suite import Suite

SMALL_WINDOW = "gpt-4o"
WINDOW = 128_000
TOO_LONG = "The tenant gives notice. " * 28_000
"""140,000 tokens, below what a key may send."""


async def test_the_stock_sdks_are_told_in_their_own_words(
    configured_suite: Suite, provider: ProviderDouble
) -> None:
    url, key = configured_suite.url, configured_suite.api_key
    openai = AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)
    anthropic = AsyncAnthropic(base_url=url, api_key=key, max_retries=0)
    before = provider.calls()
    async with openai, anthropic:
        with pytest.raises(BadRequestError) as of_openai:
            await openai.chat.completions.create(
                model=SMALL_WINDOW, messages=[{"role": "user", "content": TOO_LONG}]
            )
        assert (of_openai.value.code, of_openai.value.param) == ("context_length_exceeded", "messages")
        with pytest.raises(AnthropicBadRequest) as of_anthropic:
            await anthropic.messages.create(
                model=SMALL_WINDOW, max_tokens=9, messages=[{"role": "user", "content": TOO_LONG}]
            )
        assert "prompt is too long: " in of_anthropic.value.message
        assert f" tokens > {WINDOW} maximum" in of_anthropic.value.message
    assert provider.calls() == before


async def test_a_refusal_of_the_native_api_bears_its_ids_and_no_call_of_the_router(
    configured_suite: Suite, spans: OtlpReceiver
) -> None:
    body = {
        "generation": {
            "target": {"name": SMALL_WINDOW},
            "messages": [{"role": "ROLE_USER", "parts": [{"text": TOO_LONG}]}],
        }
    }
    headers = {"authorization": f"Bearer {configured_suite.api_key}"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{configured_suite.url}/api/v1/generate", json=body, headers=headers) as answer,
    ):
        said = await answer.json()
    assert answer.status == 400
    assert answer.headers["x-request-id"]
    trace_id = answer.headers["x-quartet-trace-id"]
    assert said["details"][0]["reason"] == "CONTEXT_WINDOW_EXCEEDED"
    assert said["details"][0]["metadata"]["limit"] == str(WINDOW)
    names: list[str] = []
    async with asyncio.timeout(30):
        while not any("GatewayService/Generate" in name for name in names):
            await asyncio.sleep(0.1)
            names = [span.name for span in spans.trace(trace_id)]
    # Both are in one process here, and it tells its spans together.
    assert not [name for name in names if "RouterService" in name]
