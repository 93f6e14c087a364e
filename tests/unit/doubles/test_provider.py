"""What the double counts and keeps, and how it is told what to do."""

import asyncio
import json
import sys

import aiohttp
import anthropic
import openai
import pytest

from tests.doubles.provider import Fault, Match, ProviderDouble, Reply, Usage
from tests.unit.doubles.asking import (
    CLAUDE,
    GPT,
    ask_claude,
    ask_gpt,
    texts_of_gpt,
    user,
)


class TestBookkeeping:
    @pytest.mark.parametrize("stream", [False, True])
    async def test_a_client_that_leaves_is_noticed(
        self, double: ProviderDouble, claude: anthropic.AsyncAnthropic, stream: bool
    ) -> None:
        double.script(fault=Fault(chunk_delay_s=30) if stream else Fault(delay_s=30))

        async def read() -> None:
            async for _ in await ask_claude(claude, stream=stream):
                pass

        reader = asyncio.create_task(read())
        await double.wait_calls(timeout_s=5)
        await asyncio.sleep(0.05)  # the opening of the stream is under way
        assert double.open_connections == 1
        reader.cancel()
        await double.wait_disconnects()
        gone = double.disconnects[0]
        assert (gone.endpoint, gone.model) == ("/v1/messages", CLAUDE)
        await asyncio.gather(reader, return_exceptions=True)
        await asyncio.sleep(0)
        assert double.open_connections == 0

    async def test_calls_are_counted_by_endpoint_and_model_and_requests_are_kept(
        self, double: ProviderDouble, gpt: openai.AsyncOpenAI, claude: anthropic.AsyncAnthropic
    ) -> None:
        await ask_gpt(gpt, extra_headers={"X-Trace": "t1"})
        await ask_gpt(gpt)
        await ask_claude(claude)
        assert double.calls() == 3
        assert double.calls("/v1/chat/completions", GPT) == 2
        assert double.requests[0].headers["x-trace"] == "t1"
        assert double.requests[0].body["messages"] == user("Hello there")
        assert double.stats()["statuses"] == {"200": 3}
        double.reset()
        assert (double.calls(), double.requests) == (0, [])

    async def test_rules_are_used_in_turn_for_what_they_match(
        self, double: ProviderDouble, gpt: openai.AsyncOpenAI, claude: anthropic.AsyncAnthropic
    ) -> None:
        twice = double.script(match=GPT, reply=Reply(text="first"), times=2)
        double.script(match=lambda request: "riddle" in str(request.body), reply=Reply(text="no"), times=None)
        double.script(match=Match(endpoint="/v1/messages"), reply=Reply(text="third"))
        assert (await ask_claude(claude)).content[0].text == "third"
        answers = [(await ask_gpt(gpt, "a riddle")).choices[0].message.content for _ in range(4)]
        assert answers == ["first", "first", "no", "no"]
        assert twice.used == 2

    async def test_usage_can_be_scripted(
        self, double: ProviderDouble, gpt: openai.AsyncOpenAI, claude: anthropic.AsyncAnthropic
    ) -> None:
        usage = Usage(input_tokens=100, output_tokens=9, cached_tokens=60, cache_write_tokens=10)
        double.script(reply=Reply(usage=usage), times=2)
        of_gpt, of_claude = (await ask_gpt(gpt)).usage, (await ask_claude(claude)).usage
        assert (of_gpt.prompt_tokens, of_gpt.prompt_tokens_details.cached_tokens) == (100, 60)
        assert (of_claude.input_tokens, of_claude.cache_read_input_tokens) == (30, 60)

    def test_a_rule_for_no_request_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="at least 1"):
            ProviderDouble().script(times=0)

    async def test_a_request_can_carry_its_own_reply_and_fault(
        self, double: ProviderDouble, gpt: openai.AsyncOpenAI
    ) -> None:
        answer = await ask_gpt(gpt, extra_headers={"x-double-reply": '{"text": "mine"}'})
        assert answer.choices[0].message.content == "mine"
        with pytest.raises(openai.InternalServerError):
            await ask_gpt(gpt, extra_headers={"x-double-fault": '{"status": 503}'})
        with pytest.raises(openai.BadRequestError):
            await ask_gpt(gpt, extra_headers={"x-double-fault": '{"statu": 503}'})


async def test_a_double_in_its_own_process_is_told_by_http(pytestconfig: pytest.Config) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.doubles.provider", "--chunks", "20"),
        cwd=pytestconfig.rootpath,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        url = json.loads(await process.stdout.readline())["url"]
        async with (
            openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0) as gpt,
            aiohttp.ClientSession(url) as control,
        ):
            rule = {"match": {"model": GPT, "stream": False}, "fault": {"status": 429}, "times": 1}
            async with control.post("/_double/script", json=rule) as response:
                assert response.status == 200
            async with control.post("/_double/script", json={"times": 0}) as response:
                assert response.status == 400
            assert len(await texts_of_gpt(gpt)) == 20
            with pytest.raises(openai.RateLimitError):
                await ask_gpt(gpt)
            async with control.get("/_double/stats") as response:
                stats = await response.json()
            assert stats["calls"] == {"/v1/chat/completions": {GPT: 2}}
            assert stats["statuses"] == {"200": 1, "429": 1}
            async with control.get("/_double/requests") as response:
                assert (await response.json())[0]["headers"]["authorization"] == "Bearer k"
            async with control.post("/_double/reset") as response:
                assert response.status == 200
            async with control.get("/_double/stats") as response:
                assert (await response.json())["calls"] == {}
    finally:
        process.terminate()
        assert await process.wait() == 0
