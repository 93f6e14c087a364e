"""The stock SDKs through Envoy, gateway and router to both vendors' wire formats."""

import anthropic
import openai
import pytest
from openai.types.chat import ChatCompletionMessageFunctionToolCall

from tests.doubles.provider import Fault, ProviderDouble, Reply, ToolCall
from tests.e2e.suite import Suite

OPENAI_MODEL, ANTHROPIC_MODEL = "gpt-6-luna", "claude-haiku-5-5"
LIMITED_MODEL = "gpt-5.2"
"""Asked once: after that it is left alone for a time."""
CITY = {"type": "string"}
WEATHER: dict[str, object] = {"type": "object", "properties": {"city": CITY}, "required": ["city"]}


@pytest.mark.parametrize("model", [OPENAI_MODEL, ANTHROPIC_MODEL, "auto"])
async def test_openai_s_client_chats_with_either_vendor(
    openai_client: openai.AsyncOpenAI, model: str
) -> None:
    answer = await openai_client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "Say pineapple"}]
    )
    assert "pineapple" in (answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage
    assert answer.usage.total_tokens > 0


@pytest.mark.parametrize("model", [OPENAI_MODEL, ANTHROPIC_MODEL])
async def test_openai_s_client_streams_from_either_vendor(
    openai_client: openai.AsyncOpenAI, model: str
) -> None:
    stream = await openai_client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "Say pineapple"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    text, usage = "", None
    async for chunk in stream:
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
        usage = chunk.usage or usage
    assert "pineapple" in text
    assert usage
    assert usage.completion_tokens > 0


@pytest.mark.parametrize("model", [OPENAI_MODEL, ANTHROPIC_MODEL])
@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
async def test_openai_s_client_calls_tools_of_either_vendor(
    openai_client: openai.AsyncOpenAI, provider: ProviderDouble, model: str, stream: bool
) -> None:
    call = ToolCall(name="weather", arguments={"city": "Oslo"})
    provider.script(match=model, reply=Reply(tool_calls=(call,)))
    tools: list[openai.types.chat.ChatCompletionToolUnionParam] = [
        {"type": "function", "function": {"name": "weather", "parameters": WEATHER}}
    ]
    question: openai.types.chat.ChatCompletionMessageParam = {"role": "user", "content": "Weather in Oslo?"}
    if stream:
        arguments, name, call_id = "", "", ""
        events = await openai_client.chat.completions.create(
            model=model, messages=[question], tools=tools, stream=True
        )
        async for chunk in events:
            for choice in chunk.choices:
                for delta in choice.delta.tool_calls or ():
                    call_id = delta.id or call_id
                    if delta.function:
                        name += delta.function.name or ""
                        arguments += delta.function.arguments or ""
    else:
        answer = await openai_client.chat.completions.create(model=model, messages=[question], tools=tools)
        calls = answer.choices[0].message.tool_calls
        assert calls
        (made,) = calls
        assert isinstance(made, ChatCompletionMessageFunctionToolCall)
        call_id, name, arguments = made.id, made.function.name, made.function.arguments
        assert answer.choices[0].finish_reason == "tool_calls"
    assert name == "weather"
    assert arguments.replace(" ", "") == '{"city":"Oslo"}'
    final = await openai_client.chat.completions.create(
        model=model,
        tools=tools,
        messages=[
            question,
            {
                "role": "assistant",
                "tool_calls": [
                    {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
                ],
            },
            {"role": "tool", "tool_call_id": call_id, "content": "Rain, 4 degrees"},
        ],
    )
    assert "Rain" in (final.choices[0].message.content or "")


@pytest.mark.parametrize("model", [OPENAI_MODEL, ANTHROPIC_MODEL, "auto"])
async def test_anthropic_s_client_talks_with_either_vendor(
    anthropic_client: anthropic.AsyncAnthropic, model: str
) -> None:
    answer = await anthropic_client.messages.create(
        model=model, max_tokens=100, messages=[{"role": "user", "content": "Say pineapple"}]
    )
    assert answer.content[0].type == "text"
    assert "pineapple" in answer.content[0].text
    assert answer.stop_reason == "end_turn"
    assert answer.usage.output_tokens > 0


@pytest.mark.parametrize("model", [OPENAI_MODEL, ANTHROPIC_MODEL])
async def test_anthropic_s_client_streams_tools_and_text_of_either_vendor(
    anthropic_client: anthropic.AsyncAnthropic, provider: ProviderDouble, model: str
) -> None:
    async with anthropic_client.messages.stream(
        model=model, max_tokens=100, messages=[{"role": "user", "content": "Say pineapple"}]
    ) as stream:
        assert "pineapple" in await stream.get_final_text()
    provider.script(
        match=model, reply=Reply(tool_calls=(ToolCall(name="weather", arguments={"city": "Oslo"}),))
    )
    async with anthropic_client.messages.stream(
        model=model,
        max_tokens=100,
        tools=[{"name": "weather", "input_schema": WEATHER}],
        messages=[{"role": "user", "content": "Weather in Oslo?"}],
    ) as stream:
        message = await stream.get_final_message()
    (used,) = [block for block in message.content if block.type == "tool_use"]
    assert used.name == "weather"
    assert used.input == {"city": "Oslo"}
    assert message.stop_reason == "tool_use"


async def test_a_dead_model_is_served_by_its_successor(
    openai_client: openai.AsyncOpenAI, provider: ProviderDouble
) -> None:
    answer = await openai_client.chat.completions.with_raw_response.create(
        model="claude-sonnet-4-20250514", messages=[{"role": "user", "content": "Hi"}]
    )
    assert answer.headers["x-quartet-model"] == "claude-sonnet-5-5"
    assert provider.calls(model="claude-sonnet-5-5") == 1


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
async def test_what_a_model_does_not_take_is_left_out_and_said(
    openai_client: openai.AsyncOpenAI, stream: bool
) -> None:
    answer = await openai_client.chat.completions.with_raw_response.create(
        model="claude-opus-5-5",
        messages=[{"role": "user", "content": "Hi"}],
        temperature=0.3,
        stream=stream,
    )
    assert "temperature" in answer.headers["x-quartet-adapted"]


async def test_errors_are_the_sdks_own_classes(
    openai_client: openai.AsyncOpenAI, anthropic_client: anthropic.AsyncAnthropic, configured_suite: Suite
) -> None:
    hello: openai.types.chat.ChatCompletionMessageParam = {"role": "user", "content": "Hi"}
    with pytest.raises(openai.NotFoundError, match="no-such-model"):
        await openai_client.chat.completions.create(model="no-such-model", messages=[hello])
    with pytest.raises(openai.BadRequestError, match="messages"):
        await openai_client.chat.completions.create(model=OPENAI_MODEL, messages=[])
    with pytest.raises(openai.AuthenticationError):
        await openai_client.with_options(api_key="qk_wrong").models.list()
    with pytest.raises(anthropic.NotFoundError, match="no-such-model"):
        await anthropic_client.messages.create(
            model="no-such-model", max_tokens=9, messages=[{"role": "user", "content": "Hi"}]
        )
    with pytest.raises(anthropic.AuthenticationError):
        await anthropic_client.with_options(api_key="qk_wrong").models.list()


async def test_a_provider_that_limits_us_is_a_rate_limit_error_with_its_delay(
    openai_client: openai.AsyncOpenAI, provider: ProviderDouble
) -> None:
    provider.script(match=LIMITED_MODEL, fault=Fault(status=429, retry_after_s=30), times=None)
    with pytest.raises(openai.RateLimitError) as raised:
        await openai_client.chat.completions.create(
            model=LIMITED_MODEL, messages=[{"role": "user", "content": "Hi"}]
        )
    assert float(raised.value.response.headers["retry-after"]) >= 1


async def test_a_stream_that_breaks_ends_with_an_error_and_not_silently(
    openai_client: openai.AsyncOpenAI, provider: ProviderDouble
) -> None:
    provider.script(match=OPENAI_MODEL, reply=Reply(chunks=10), fault=Fault(cut_after_chunks=3))
    stream = await openai_client.chat.completions.create(
        model=OPENAI_MODEL, messages=[{"role": "user", "content": "Say a few words please"}], stream=True
    )
    with pytest.raises(openai.APIError):
        async for _ in stream:
            pass


async def test_a_client_that_goes_away_closes_the_provider_s_socket(
    openai_client: openai.AsyncOpenAI, provider: ProviderDouble
) -> None:
    provider.script(match=OPENAI_MODEL, reply=Reply(chunks=100), fault=Fault(chunk_delay_s=0.2))
    stream = await openai_client.chat.completions.create(
        model=OPENAI_MODEL,
        messages=[{"role": "user", "content": "Say a lot of words, one after the other"}],
        stream=True,
    )
    async for _ in stream:
        break
    await stream.close()
    await provider.wait_disconnects(1, timeout_s=5)


async def test_models_are_listed_for_both_clients(
    openai_client: openai.AsyncOpenAI, anthropic_client: anthropic.AsyncAnthropic
) -> None:
    names = {model.id async for model in openai_client.models.list()}
    assert {"auto", OPENAI_MODEL, "route/technical", "agent"} <= names
    assert OPENAI_MODEL in {model.id async for model in anthropic_client.models.list()}


async def test_embeddings_come_from_the_local_model_and_from_the_vendor(
    openai_client: openai.AsyncOpenAI,
) -> None:
    local = await openai_client.embeddings.create(model="local/minilm", input=["a cat", "a kitten"])
    assert [len(item.embedding) for item in local.data] == [384, 384]
    vendor = await openai_client.embeddings.create(model="text-embedding-3-small", input="a cat")
    assert vendor.data[0].embedding
