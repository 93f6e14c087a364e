"""Limits of a key over two gateway and two router processes behind Envoy, with the stock SDKs as clients."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import anthropic
import openai
import pytest
import pytest_asyncio

from tests.doubles.provider import Fault, ProviderDouble, Reply, Usage
from tests.e2e.suite import Suite, run_suite
from tests.e2e.vitals import reservations

QUOTA = 10_000
PROMPT_TOKENS = 10
"""Of the prompt below, at most: with what is asked of output a request is estimated at 1,000."""


@pytest_asyncio.fixture(scope="module")
async def pairs(provider: ProviderDouble) -> AsyncIterator[Suite]:
    """Two processes of the gateway and of the router each."""
    async with run_suite(
        OPENAI_API_KEY="sk-test",
        OPENAI_BASE_URL=provider.openai_url,
        ANTHROPIC_API_KEY="sk-ant-test",
        ANTHROPIC_BASE_URL=provider.url,
        GATEWAY_WORKERS="2",
        ROUTER_WORKERS="2",
        GATEWAY_ACCOUNT_TIMEOUT_S="10",  # a busy test machine is no store that is down
        ROUTER_ACCOUNT_TIMEOUT_S="10",
    ) as running:
        yield running


async def make_key(suite: Suite, *quotas: str) -> str:
    options = [argument for quota in quotas for argument in ("--quota", quota)]
    made = await suite.quartet("keys", "create", "limited", "--scope", "*", *options, "--json")
    secret: str = json.loads(made)["secret"]
    return secret


def client_of(suite: Suite, key: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{suite.url}/v1", api_key=key, max_retries=0)


async def ask(client: openai.AsyncOpenAI, *, output: int = 1000 - PROMPT_TOKENS) -> Any:
    return await client.chat.completions.with_raw_response.create(
        model="gpt-6-luna", messages=[{"role": "user", "content": "hi"}], max_tokens=output
    )


async def ask_until_let_in(client: openai.AsyncOpenAI) -> None:
    """Asks again while the limit refuses, for what was taken to be given back."""
    async with asyncio.timeout(15):
        while True:
            try:
                await ask(client)
            except openai.RateLimitError:
                await asyncio.sleep(0.1)
            else:
                return


async def read_standing(client: openai.AsyncOpenAI) -> tuple[int, int]:
    """Limit and rest of the tokens in this minute, after a request for one token."""
    headers = (await ask(client, output=1)).headers
    return int(headers["x-ratelimit-limit-tokens"]), int(headers["x-ratelimit-remaining-tokens"])


async def test_of_a_hundred_calls_at_once_exactly_ten_pass_and_the_rest_comes_back(
    pairs: Suite, provider: ProviderDouble
) -> None:
    provider.reset()
    # Nobody is answered before all have asked: what comes back early would let others pass.
    used = Usage(input_tokens=150, output_tokens=50)
    provider.script(reply=Reply(text="ok", usage=used), fault=Fault(delay_s=8), times=10)
    key = await make_key(pairs, f"tokens_per_minute={QUOTA}")
    async with client_of(pairs, key) as client:
        outcomes = await asyncio.gather(*(ask(client) for _ in range(100)), return_exceptions=True)
        passed = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
        refused = [outcome for outcome in outcomes if isinstance(outcome, openai.RateLimitError)]
        assert (len(passed), len(refused)) == (10, 90)
        assert provider.calls() == 10
        error = refused[0]
        assert error.status_code == 429
        assert "tokens_per_minute" in error.message
        assert 0 < int(error.response.headers["retry-after"]) <= 60
        assert error.response.headers["x-ratelimit-limit-tokens"] == str(QUOTA)
        assert not await reservations(pairs)
        provider.reset()
        most, left = await read_standing(client)
        # Ten calls used 200 each; this one is reserved at a token of output and its prompt's.
        assert most == QUOTA
        assert 8000 - PROMPT_TOKENS - 1 <= left < 8000


async def test_requests_in_a_minute_are_counted_for_both_dialects_alike(pairs: Suite) -> None:
    key = await make_key(pairs, "requests_per_minute=3")
    async with client_of(pairs, key) as client:
        headers = [(await ask(client)).headers for _ in range(3)]
        assert [one["x-ratelimit-remaining-requests"] for one in headers] == ["2", "1", "0"]
        with pytest.raises(openai.RateLimitError):
            await ask(client)
    async with anthropic.AsyncAnthropic(base_url=pairs.url, api_key=key, max_retries=0) as client_too:
        with pytest.raises(anthropic.RateLimitError) as caught:
            await client_too.messages.create(
                model="claude-haiku-5-5", max_tokens=10, messages=[{"role": "user", "content": "hi"}]
            )
    assert "requests_per_minute" in caught.value.message
    async with aiohttp.ClientSession() as session:
        generation = {"messages": [{"role": "ROLE_USER", "parts": [{"text": "hi"}]}]}
        async with session.post(
            f"{pairs.url}/api/v1/generate", json={"generation": generation}, headers={"x-api-key": key}
        ) as answer:
            assert answer.status == 429
            assert 0 < int(answer.headers["retry-after"]) <= 60


async def test_a_zero_quota_allows_nothing_and_says_what_to_do(
    pairs: Suite, provider: ProviderDouble
) -> None:
    provider.reset()
    key = await make_key(pairs, "tokens_per_day=0")
    async with client_of(pairs, key) as client:
        with pytest.raises(openai.RateLimitError, match="have the limit raised"):
            await ask(client)
        with pytest.raises(openai.RateLimitError):
            await client.embeddings.create(model="text-embedding-3-small", input="hello")
    assert provider.calls() == 0


async def test_a_stream_that_is_left_gives_its_place_back(pairs: Suite, provider: ProviderDouble) -> None:
    provider.reset()
    provider.script(fault=Fault(chunk_delay_s=0.5), times=1)
    key = await make_key(pairs, "concurrent_calls=1")
    async with client_of(pairs, key) as client:
        stream = await client.chat.completions.create(
            model="gpt-6-luna", messages=[{"role": "user", "content": "hi"}], stream=True
        )
        with pytest.raises(openai.RateLimitError):
            await ask(client)
        await stream.close()
        await ask_until_let_in(client)


async def test_money_of_a_run_is_one_account_with_all_its_calls(
    pairs: Suite, provider: ProviderDouble
) -> None:
    provider.reset()
    await pairs.quartet("ingest", "docs/errors.md")
    key = await make_key(pairs, "micro_usd_per_day=1000000", "concurrent_calls=1")
    async with client_of(pairs, key) as client:
        answer = await client.chat.completions.create(
            model="agent", messages=[{"role": "user", "content": "What does QUOTA_EXHAUSTED mean?"}]
        )
        assert answer.choices[0].message.content
        # The run's account, its place included, is closed.
        await ask_until_let_in(client)
