"""A gateway with few places: who is refused, what the stock client sees, and that places come back."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from openai import AsyncOpenAI, InternalServerError

from tests.doubles.provider import Fault, Match, ProviderDouble, Reply
from tests.e2e.suite import run_suite

MODEL = "gpt-6-luna"
SHEDDABLE = {"x-quartet-priority": "sheddable"}


async def test_with_half_the_places_taken_the_sheddable_wait_and_the_others_do_not() -> None:
    async with (
        ProviderDouble() as provider,
        run_suite(
            OPENAI_API_KEY="sk-test",
            OPENAI_BASE_URL=provider.openai_url,
            QUARTET_COLOCATE="gateway,router",
            GATEWAY_MIN_CALLS="1",
            GATEWAY_MAX_CALLS="4",
        ) as suite,
        AsyncOpenAI(base_url=f"{suite.url}/v1", api_key=suite.api_key, max_retries=0) as openai,
    ):
        provider.script(
            match=Match(contains="wait here"),
            reply=Reply(chunks=5),
            fault=Fault(hang_after_chunks=1),
            times=None,
        )
        async with AsyncExitStack() as held:
            for number in range(2):
                said = f"wait here, {number}"
                stream = await openai.chat.completions.create(
                    model=MODEL, messages=[{"role": "user", "content": said}], stream=True
                )
                held.push_async_callback(stream.close)
                await anext(aiter(stream))
            asked = provider.calls()
            with pytest.raises(InternalServerError) as refused:
                await openai.chat.completions.create(
                    model=MODEL, messages=[{"role": "user", "content": "later"}], extra_headers=SHEDDABLE
                )
            assert refused.value.status_code == 503
            assert refused.value.code == "overloaded"
            assert 3 <= int(refused.value.response.headers["retry-after"]) <= 9
            assert provider.calls() == asked
            answer = await openai.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": "now"}]
            )
            assert answer.choices[0].message.content
        async with asyncio.timeout(10):
            while True:
                try:
                    answer = await openai.chat.completions.create(
                        model=MODEL, messages=[{"role": "user", "content": "later"}], extra_headers=SHEDDABLE
                    )
                    break
                except InternalServerError:
                    await asyncio.sleep(0.1)
        assert answer.choices[0].message.content
