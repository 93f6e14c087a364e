"""What goes wrong with the double, on request."""

import json
import time

import aiohttp
import anthropic
import httpx2
import openai
import pytest

from tests.doubles.provider import Fault, ProviderDouble, Reply
from tests.unit.doubles.asking import (
    CLAUDE,
    GPT,
    ask_claude,
    ask_gpt,
    texts_of_gpt,
    user,
)


class TestErrors:
    @pytest.mark.parametrize(
        ("status", "of_openai", "of_anthropic"),
        [
            (401, openai.AuthenticationError, anthropic.AuthenticationError),
            (403, openai.PermissionDeniedError, anthropic.PermissionDeniedError),
            (404, openai.NotFoundError, anthropic.NotFoundError),
            (429, openai.RateLimitError, anthropic.RateLimitError),
            (500, openai.InternalServerError, anthropic.InternalServerError),
            (503, openai.InternalServerError, anthropic.InternalServerError),
            (529, openai.InternalServerError, anthropic.InternalServerError),
        ],
    )
    async def test_a_status_raises_the_sdk_s_own_class(
        self,
        double: ProviderDouble,
        gpt: openai.AsyncOpenAI,
        claude: anthropic.AsyncAnthropic,
        status: int,
        of_openai: type[openai.APIStatusError],
        of_anthropic: type[anthropic.APIStatusError],
    ) -> None:
        double.script(fault=Fault(status=status, retry_after_s=2, message="not now"), times=2)
        with pytest.raises(of_openai, match="not now") as from_openai:
            await ask_gpt(gpt, stream=True)
        with pytest.raises(of_anthropic, match="not now") as from_anthropic:
            await ask_claude(claude)
        assert from_openai.value.response.headers["retry-after"] == "2"
        assert from_anthropic.value.response.headers["retry-after"] == "2"
        assert from_anthropic.value.request_id

    async def test_an_overloaded_anthropic_says_so_by_type(
        self, double: ProviderDouble, claude: anthropic.AsyncAnthropic
    ) -> None:
        double.script(fault=Fault(status=529))
        with pytest.raises(anthropic.InternalServerError) as overloaded:
            await ask_claude(claude)
        assert overloaded.value.type == "overloaded_error"

    async def test_a_missing_and_a_wrong_key_are_refused(self) -> None:
        async with (
            ProviderDouble(api_keys={"right"}) as double,
            openai.AsyncOpenAI(base_url=double.openai_url, api_key="wrong", max_retries=0) as wrong,
            anthropic.AsyncAnthropic(base_url=double.url, api_key="right", max_retries=0) as right,
            aiohttp.ClientSession() as session,
        ):
            with pytest.raises(openai.AuthenticationError):
                await ask_gpt(wrong)
            await ask_claude(right)
            async with session.get(f"{double.url}/v1/models") as response:
                assert response.status == 401

    async def test_a_model_outside_the_set_is_not_found(self) -> None:
        async with (
            ProviderDouble(models={CLAUDE}) as double,
            openai.AsyncOpenAI(base_url=double.openai_url, api_key="k", max_retries=0) as gpt,
            anthropic.AsyncAnthropic(base_url=double.url, api_key="k", max_retries=0) as claude,
        ):
            with pytest.raises(openai.NotFoundError) as missing:
                await ask_gpt(gpt)
            assert missing.value.code == "model_not_found"
            with pytest.raises(anthropic.NotFoundError):
                await ask_claude(claude, model="claude-opus-5-5")
            await ask_claude(claude)


class TestFaults:
    async def test_an_openai_stream_is_cut_after_so_many_pieces(
        self, double: ProviderDouble, gpt: openai.AsyncOpenAI
    ) -> None:
        double.script(reply=Reply(chunks=10), fault=Fault(cut_after_chunks=3))
        stream = await ask_gpt(gpt, stream=True)
        # The role, three pieces, and no more.
        assert [(await anext(stream)).choices[0].finish_reason for _ in range(4)] == [None] * 4
        with pytest.raises(openai.APIConnectionError):
            await anext(stream)
        assert double.disconnects == []

    async def test_an_anthropic_stream_is_cut_after_so_many_pieces(
        self, double: ProviderDouble, claude: anthropic.AsyncAnthropic
    ) -> None:
        double.script(reply=Reply(chunks=10), fault=Fault(cut_after_chunks=3))
        stream = await ask_claude(claude, stream=True)
        kinds = [(await anext(stream)).type for _ in range(5)]
        assert kinds == ["message_start", "content_block_start", *["content_block_delta"] * 3]
        # The SDK passes the transport's own error on.
        with pytest.raises(httpx2.RemoteProtocolError):
            await anext(stream)

    @pytest.mark.parametrize(
        "fault", [Fault(drop=True), Fault(cut_after_chunks=0), Fault(cut_after_chunks=1)]
    )
    async def test_a_unary_answer_is_cut(
        self, double: ProviderDouble, gpt: openai.AsyncOpenAI, fault: Fault
    ) -> None:
        double.script(fault=fault)
        with pytest.raises(openai.APIConnectionError):
            await ask_gpt(gpt)
        assert (await ask_gpt(gpt)).choices[0].finish_reason == "stop"

    @pytest.mark.parametrize("stream", [False, True])
    async def test_a_hanging_answer_ends_in_the_client_s_timeout_and_is_noticed(
        self, double: ProviderDouble, gpt: openai.AsyncOpenAI, stream: bool
    ) -> None:
        double.script(fault=Fault(hang_after_chunks=0))
        with pytest.raises(openai.APITimeoutError):
            async for _ in await ask_gpt(gpt.with_options(timeout=0.2), stream=stream):
                pass
        await double.wait_disconnects()
        assert double.disconnects[0].chunks_sent == 0

    async def test_a_malformed_event_breaks_the_reader(
        self, double: ProviderDouble, gpt: openai.AsyncOpenAI, claude: anthropic.AsyncAnthropic
    ) -> None:
        double.script(fault=Fault(malformed_after_chunks=1), times=3)
        with pytest.raises(json.JSONDecodeError):
            await texts_of_gpt(gpt)
        with pytest.raises(json.JSONDecodeError):
            _ = [event async for event in await ask_claude(claude, stream=True)]
        with pytest.raises(json.JSONDecodeError):
            await ask_gpt(gpt)

    async def test_an_error_event_ends_the_stream(
        self, double: ProviderDouble, gpt: openai.AsyncOpenAI, claude: anthropic.AsyncAnthropic
    ) -> None:
        double.script(fault=Fault(error_after_chunks=1, message="too much"), times=2)
        with pytest.raises(openai.APIError, match="too much"):
            await texts_of_gpt(gpt)
        with pytest.raises(anthropic.APIStatusError, match="too much") as overloaded:
            _ = [event async for event in await ask_claude(claude, stream=True)]
        assert overloaded.value.type == "overloaded_error"

    async def test_the_content_type_can_be_wrong(
        self, double: ProviderDouble, gpt: openai.AsyncOpenAI
    ) -> None:
        double.script(fault=Fault(content_type="text/html"))
        raw = await gpt.chat.completions.with_raw_response.create(model=GPT, messages=user("hi"))
        assert raw.headers["content-type"] == "text/html"

    @pytest.mark.parametrize("stream", [False, True])
    async def test_an_answer_can_be_oversized(self, double: ProviderDouble, stream: bool) -> None:
        double.script(fault=Fault(oversize_bytes=300_000))
        body = {"model": GPT, "messages": user("hi"), "stream": stream}
        async with (
            aiohttp.ClientSession(headers={"authorization": "Bearer k"}) as session,
            session.post(f"{double.openai_url}/chat/completions", json=body) as response,
        ):
            assert len(await response.read()) > 300_000

    async def test_a_slow_drip_arrives_whole(self, double: ProviderDouble, gpt: openai.AsyncOpenAI) -> None:
        double.script(reply=Reply(text="a b c", chunks=3), fault=Fault(drip_bytes=60, drip_interval_s=0.001))
        started = time.monotonic()
        assert await texts_of_gpt(gpt) == ["a ", "b ", "c"]
        assert time.monotonic() - started > 0.02

    async def test_delays_stand_before_the_first_byte_and_between_pieces(
        self, double: ProviderDouble, gpt: openai.AsyncOpenAI
    ) -> None:
        double.script(reply=Reply(chunks=4), fault=Fault(delay_s=0.1, chunk_delay_s=0.05))
        started = time.monotonic()
        stream = await ask_gpt(gpt, stream=True)
        assert time.monotonic() - started >= 0.1
        assert len([chunk async for chunk in stream]) == 6
        assert time.monotonic() - started >= 0.29
