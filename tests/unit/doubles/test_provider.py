import asyncio
import json
import math
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import anthropic
import httpx2
import openai
import pytest
from anthropic.types import ToolParam
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from tests.doubles.provider import Fault, Match, ProviderDouble, Reply, ToolCall, Usage

GPT = "gpt-6-luna"
CLAUDE = "claude-haiku-5-5"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 2}},
    "required": ["city", "days"],
}
OPENAI_TOOL: ChatCompletionToolParam = {
    "type": "function",
    "function": {"name": "forecast", "parameters": SCHEMA},
}
ANTHROPIC_TOOL: ToolParam = {"name": "forecast", "input_schema": SCHEMA}


@pytest.fixture
async def double() -> AsyncIterator[ProviderDouble]:
    async with ProviderDouble() as double:
        yield double


@pytest.fixture
async def gpt(double: ProviderDouble) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=double.openai_url, api_key="sk-any", max_retries=0) as client:
        yield client


@pytest.fixture
async def claude(double: ProviderDouble) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=double.url, api_key="sk-ant-any", max_retries=0) as client:
        yield client


def user(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


async def ask_gpt(client: openai.AsyncOpenAI, text: str = "Hello there", **more: Any) -> Any:
    return await client.chat.completions.create(model=GPT, messages=user(text), **more)


async def ask_claude(client: anthropic.AsyncAnthropic, text: str = "Hello there", **more: Any) -> Any:
    return await client.messages.create(
        model=more.pop("model", CLAUDE),
        max_tokens=1000,
        messages=[{"role": "user", "content": text}],
        **more,
    )


async def texts_of_gpt(client: openai.AsyncOpenAI, **more: Any) -> list[str]:
    stream = await ask_gpt(client, stream=True, **more)
    return [chunk.choices[0].delta.content async for chunk in stream if chunk.choices[0].delta.content]


class TestOpenAI:
    async def test_a_unary_answer_echoes_the_last_user_text_and_counts_tokens(
        self, gpt: openai.AsyncOpenAI
    ) -> None:
        answer = await ask_gpt(gpt, "What is a quartet?")
        assert answer.choices[0].message.content == "You said: What is a quartet?"
        assert answer.choices[0].finish_reason == "stop"
        assert answer.usage.prompt_tokens == math.ceil((len("What is a quartet?") + 12) / 4)
        assert answer.usage.completion_tokens == 7
        assert answer.usage.prompt_tokens_details.cached_tokens == 0

    async def test_a_stream_has_a_role_pieces_a_finish_reason_and_usage(
        self, gpt: openai.AsyncOpenAI
    ) -> None:
        stream = await ask_gpt(gpt, "one two", stream=True, stream_options={"include_usage": True})
        chunks = [chunk async for chunk in stream]
        assert chunks[0].choices[0].delta.role == "assistant"
        assert [chunk.choices[0].delta.content for chunk in chunks[1:-2]] == ["You ", "said: ", "one ", "two"]
        assert chunks[-2].choices[0].finish_reason == "stop"
        assert chunks[-1].choices == []
        assert chunks[-1].usage.total_tokens == chunks[-1].usage.prompt_tokens + 5
        assert len({chunk.id for chunk in chunks}) == 1

    async def test_usage_is_streamed_only_when_asked_for(self, gpt: openai.AsyncOpenAI) -> None:
        chunks = [chunk async for chunk in await ask_gpt(gpt, stream=True)]
        assert all(chunk.usage is None and chunk.choices for chunk in chunks)

    @pytest.mark.parametrize("chunks", [1, 5, 50])
    async def test_a_stream_has_as_many_pieces_as_were_asked_for(
        self, double: ProviderDouble, gpt: openai.AsyncOpenAI, chunks: int
    ) -> None:
        double.script(reply=Reply(chunks=chunks))
        assert len(await texts_of_gpt(gpt)) == chunks

    async def test_a_tool_is_called_with_arguments_of_its_schema_and_its_result_is_answered(
        self, gpt: openai.AsyncOpenAI
    ) -> None:
        first = await ask_gpt(gpt, "Please use the tool", tools=[OPENAI_TOOL], reasoning_effort="none")
        assert first.choices[0].finish_reason == "tool_calls"
        call = first.choices[0].message.tool_calls[0]
        assert (call.function.name, json.loads(call.function.arguments)) == (
            "forecast",
            {"city": "Please use the tool", "days": 2},
        )
        second = await gpt.chat.completions.create(
            model=GPT,
            tools=[OPENAI_TOOL],
            reasoning_effort="none",
            messages=[
                *user("Please use the tool"),
                first.choices[0].message.to_dict(),
                {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
            ],
        )
        assert second.choices[0].message.content == "The tool returned: sunny"

    async def test_tool_calls_are_streamed_in_deltas(
        self, double: ProviderDouble, gpt: openai.AsyncOpenAI
    ) -> None:
        calls = (
            ToolCall(name="forecast", arguments={"city": "Bern", "days": 3}, id="call_1"),
            ToolCall(name="forecast", arguments={"city": "Rome", "days": 4}),
        )
        double.script(reply=Reply(tool_calls=calls))
        stream = await ask_gpt(gpt, stream=True, tools=[OPENAI_TOOL], reasoning_effort="none")
        arguments = {0: "", 1: ""}
        names, reasons = [], []
        async for chunk in stream:
            reasons.append(chunk.choices[0].finish_reason)
            for delta in chunk.choices[0].delta.tool_calls or ():
                arguments[delta.index] += delta.function.arguments
                names += [delta.function.name] if delta.function.name else []
        assert names == ["forecast", "forecast"]
        assert [json.loads(text)["city"] for text in arguments.values()] == ["Bern", "Rome"]
        assert reasons[-1] == "tool_calls"

    async def test_a_structured_answer_obeys_its_schema(self, gpt: openai.AsyncOpenAI) -> None:
        wanted = {"type": "json_schema", "json_schema": {"name": "trip", "schema": SCHEMA}}
        answer = await ask_gpt(gpt, "Bern", response_format=wanted)
        assert json.loads(answer.choices[0].message.content) == {"city": "Bern", "days": 2}

    async def test_a_long_prompt_met_again_is_cached(self, gpt: openai.AsyncOpenAI) -> None:
        first = await ask_gpt(gpt, "word " * 2000)
        second = await ask_gpt(gpt, "word " * 2000)
        assert first.usage.prompt_tokens_details.cached_tokens == 0
        assert second.usage.prompt_tokens_details.cached_tokens == 1024

    async def test_an_answer_stops_at_its_limit(
        self, double: ProviderDouble, gpt: openai.AsyncOpenAI
    ) -> None:
        double.script(reply=Reply(text="x" * 100))
        answer = await ask_gpt(gpt, max_completion_tokens=5)
        assert answer.choices[0].message.content == "x" * 20
        assert answer.choices[0].finish_reason == "length"

    async def test_embeddings_are_alike_in_both_encodings_and_near_for_like_texts(
        self, gpt: openai.AsyncOpenAI
    ) -> None:
        texts = ["the cat sat on the mat", "a cat sat on a mat", "interest rates rose"]
        as_floats = await gpt.embeddings.create(
            model="text-embedding-3-small", input=texts, encoding_format="float"
        )
        # The SDK asks for base64 where no encoding is named, and decodes it.
        as_base64 = await gpt.embeddings.create(model="text-embedding-3-small", input=texts)
        one, two, three = (item.embedding for item in as_floats.data)
        assert len(one) == 1536
        assert as_base64.data[2].embedding == pytest.approx(three)
        assert math.hypot(*one) == pytest.approx(1, abs=1e-5)
        assert sum(map(float.__mul__, one, two)) > 0.3
        assert abs(sum(map(float.__mul__, one, three))) < 0.15

    async def test_embeddings_have_the_dimensions_asked_for(self, gpt: openai.AsyncOpenAI) -> None:
        answer = await gpt.embeddings.create(model="text-embedding-3-large", input="x", dimensions=256)
        assert len(answer.data[0].embedding) == 256

    async def test_an_empty_text_is_not_embedded(self, gpt: openai.AsyncOpenAI) -> None:
        with pytest.raises(openai.BadRequestError):
            await gpt.embeddings.create(model="text-embedding-3-small", input="")

    async def test_models_are_listed(self, gpt: openai.AsyncOpenAI) -> None:
        assert GPT in [model.id async for model in gpt.models.list()]

    @pytest.mark.parametrize(
        ("model", "parameters", "param"),
        [
            ("gpt-5", {"max_tokens": 10}, "max_tokens"),
            ("o3", {"max_tokens": 10}, "max_tokens"),
            ("gpt-6.1-terra", {"temperature": 0.2}, "temperature"),
            ("gpt-6.1-terra", {"tools": [OPENAI_TOOL]}, "reasoning_effort"),
            ("gpt-5.4", {"tools": [OPENAI_TOOL], "reasoning_effort": "low"}, "reasoning_effort"),
            ("gpt-4o", {"extra_body": {"top_k": 3}}, "top_k"),
        ],
    )
    async def test_what_a_model_does_not_take_is_refused(
        self, gpt: openai.AsyncOpenAI, model: str, parameters: dict[str, Any], param: str
    ) -> None:
        with pytest.raises(openai.BadRequestError) as refused:
            await gpt.chat.completions.create(model=model, messages=user("hi"), **parameters)
        assert refused.value.param == param

    @pytest.mark.parametrize(
        ("model", "parameters"),
        [
            ("gpt-4o-mini", {"max_tokens": 10, "temperature": 0.2, "tools": [OPENAI_TOOL]}),
            ("gpt-6.1-sol", {"max_completion_tokens": 10, "temperature": 1}),
            ("gpt-6.1-sol", {"tools": [OPENAI_TOOL], "reasoning_effort": "none"}),
            ("gpt-5.2", {"temperature": 0.2, "reasoning_effort": "none"}),
            ("llama-3.3-70b", {"max_tokens": 10, "temperature": 0.2}),
        ],
    )
    async def test_what_a_model_takes_is_served(
        self, gpt: openai.AsyncOpenAI, model: str, parameters: dict[str, Any]
    ) -> None:
        answer = await gpt.chat.completions.create(model=model, messages=user("hi"), **parameters)
        assert answer.model == model

    async def test_a_tool_call_without_its_result_is_refused(self, gpt: openai.AsyncOpenAI) -> None:
        call = {"id": "c1", "type": "function", "function": {"name": "forecast", "arguments": "{}"}}
        messages: Any = [*user("hi"), {"role": "assistant", "tool_calls": [call]}, *user("and?")]
        with pytest.raises(openai.BadRequestError, match="c1"):
            await gpt.chat.completions.create(model=GPT, messages=messages)


class TestAnthropic:
    async def test_a_unary_answer_echoes_the_last_user_text_and_counts_tokens(
        self, claude: anthropic.AsyncAnthropic
    ) -> None:
        answer = await ask_claude(claude, "What is a quartet?")
        assert answer.content[0].text == "You said: What is a quartet?"
        assert (answer.stop_reason, answer.usage.output_tokens) == ("end_turn", 7)

    async def test_a_stream_has_every_event_in_its_order(
        self, double: ProviderDouble, claude: anthropic.AsyncAnthropic
    ) -> None:
        double.script(
            reply=Reply(
                thinking="Let me see.",
                text="It is so.",
                chunks=2,
                tool_calls=(ToolCall(name="forecast", arguments={"city": "Bern"}),),
            )
        )
        events = [event async for event in await ask_claude(claude, stream=True, tools=[ANTHROPIC_TOOL])]
        kinds = [
            f"{event.type}:{event.content_block.type}"
            if event.type == "content_block_start"
            else event.delta.type
            if event.type == "content_block_delta"
            else event.type
            for event in events
        ]
        assert kinds[:6] == [
            "message_start",
            "content_block_start:thinking",
            *["thinking_delta"] * 3,
            "signature_delta",
        ]
        assert kinds[6:12] == [
            "content_block_stop",
            "content_block_start:text",
            *["text_delta"] * 2,
            "content_block_stop",
            "content_block_start:tool_use",
        ]
        assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
        assert set(kinds[12:-3]) == {"input_json_delta"}
        assert events[-2].delta.stop_reason == "tool_use"
        assert events[-2].usage.output_tokens_details.thinking_tokens == 3

    async def test_a_stream_assembles_to_the_same_message_as_a_unary_answer(
        self, double: ProviderDouble, claude: anthropic.AsyncAnthropic
    ) -> None:
        reply = Reply(
            text="Yes.", tool_calls=(ToolCall(name="forecast", arguments={"days": 2}, id="toolu_1"),)
        )
        double.script(reply=reply, times=2)
        unary = await ask_claude(claude)
        async with claude.messages.stream(
            model=CLAUDE, max_tokens=1000, messages=[{"role": "user", "content": "Hello there"}]
        ) as stream:
            streamed = await stream.get_final_message()
        assert [block.to_dict() for block in streamed.content] == [block.to_dict() for block in unary.content]
        assert streamed.usage.output_tokens == unary.usage.output_tokens

    async def test_a_ping_comes_with_the_stream(self, double: ProviderDouble) -> None:
        body = {"model": CLAUDE, "max_tokens": 9, "stream": True, "messages": user("hi")}
        headers = {"x-api-key": "k", "anthropic-version": "2023-06-01"}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{double.url}/v1/messages", json=body, headers=headers) as response,
        ):
            assert "event: ping\n" in await response.text()

    async def test_a_tool_is_called_and_its_result_is_answered(
        self, claude: anthropic.AsyncAnthropic
    ) -> None:
        first = await ask_claude(claude, "Use the tool for Bern", tools=[ANTHROPIC_TOOL])
        assert first.stop_reason == "tool_use"
        use = first.content[0]
        assert use.input == {"city": "Use the tool for Bern", "days": 2}
        second = await claude.messages.create(
            model=CLAUDE,
            max_tokens=100,
            tools=[ANTHROPIC_TOOL],
            messages=[
                {"role": "user", "content": "Use the tool for Bern"},
                first.to_param(),
                {
                    "role": "user",
                    "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "sunny"}],
                },
            ],
        )
        assert second.content[0].to_dict()["text"] == "The tool returned: sunny"

    async def test_thinking_is_taken_back_by_the_model_that_had_it_only(
        self, double: ProviderDouble, claude: anthropic.AsyncAnthropic
    ) -> None:
        double.script(reply=Reply(thinking="Hm.", text="Yes."))
        thought = (await ask_claude(claude)).to_param()
        turns: Any = [{"role": "user", "content": "a"}, thought, {"role": "user", "content": "b"}]
        await claude.messages.create(model=CLAUDE, max_tokens=10, messages=turns)
        with pytest.raises(anthropic.BadRequestError, match="signature"):
            await claude.messages.create(model="claude-opus-5-5", max_tokens=10, messages=turns)

    async def test_a_marked_prefix_is_written_to_the_cache_then_read(
        self, claude: anthropic.AsyncAnthropic
    ) -> None:
        system = [{"type": "text", "text": "s" * 400, "cache_control": {"type": "ephemeral"}}]
        first, second = [(await ask_claude(claude, system=system)).usage for _ in range(2)]
        assert (first.cache_creation_input_tokens, first.cache_read_input_tokens) == (100, 0)
        assert (second.cache_creation_input_tokens, second.cache_read_input_tokens) == (0, 100)
        assert first.input_tokens == second.input_tokens > 0

    async def test_tokens_are_counted_as_they_are_billed(self, claude: anthropic.AsyncAnthropic) -> None:
        counted = await claude.messages.count_tokens(
            model=CLAUDE, messages=[{"role": "user", "content": "Hello there"}]
        )
        assert counted.input_tokens == (await ask_claude(claude)).usage.input_tokens

    async def test_models_are_listed(self, claude: anthropic.AsyncAnthropic) -> None:
        assert CLAUDE in [model.id async for model in claude.models.list()]

    @pytest.mark.parametrize(
        ("model", "parameters", "reason"),
        [
            ("claude-opus-5-5", {"tools": [ANTHROPIC_TOOL], "tool_choice": {"type": "any"}}, "tool_choice"),
            ("claude-fable-5-1", {"thinking": {"type": "disabled"}}, "thinking"),
            ("claude-sonnet-5-5", {"thinking": {"type": "enabled", "budget_tokens": 1024}}, "adaptive"),
            ("claude-haiku-4-5", {"extra_body": {"temperature": 1}}, "temperature"),
            ("claude-haiku-4-5", {"extra_body": {"best_of": 1}}, "best_of"),
        ],
    )
    async def test_what_a_model_does_not_take_is_refused(
        self, claude: anthropic.AsyncAnthropic, model: str, parameters: dict[str, Any], reason: str
    ) -> None:
        with pytest.raises(anthropic.BadRequestError, match=reason):
            await ask_claude(claude, model=model, **parameters)

    @pytest.mark.parametrize(
        ("model", "temperature", "status"),
        [
            ("claude-sonnet-5-5", 0.2, 400),
            ("claude-sonnet-5-5", 1, 200),
            ("claude-haiku-4-5", 0.2, 200),
            ("claude-sonnet-4-20250514", 0.2, 200),
        ],
    )
    async def test_the_older_api_version_leaves_the_temperature_to_the_model(
        self, double: ProviderDouble, model: str, temperature: float, status: int
    ) -> None:
        body = {"model": model, "max_tokens": 9, "temperature": temperature, "messages": user("hi")}
        headers = {"x-api-key": "k", "anthropic-version": "2023-06-01"}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{double.url}/v1/messages", json=body, headers=headers) as response,
        ):
            assert response.status == status

    async def test_the_limit_of_output_tokens_is_required(self, claude: anthropic.AsyncAnthropic) -> None:
        with pytest.raises(anthropic.BadRequestError, match="max_tokens: Field required"):
            await claude.post("/v1/messages", cast_to=object, body={"model": CLAUDE, "messages": user("hi")})


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
        await double.wait_disconnects(timeout_s=0.5)
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
        opened = time.monotonic()
        assert len([chunk async for chunk in stream]) == 6
        assert opened - started >= 0.1
        assert time.monotonic() - opened >= 0.19


class TestBookkeeping:
    @pytest.mark.parametrize("stream", [False, True])
    async def test_a_client_that_leaves_is_noticed_within_half_a_second(
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
        left_at = time.monotonic()
        reader.cancel()
        await double.wait_disconnects(timeout_s=0.5)
        gone = double.disconnects[0]
        assert gone.at - left_at < 0.5
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
