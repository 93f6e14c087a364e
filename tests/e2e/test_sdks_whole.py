"""The stock SDKs see of their own vendor's models what they would see from the vendor."""

import base64
import struct

import anthropic
import openai
import pydantic
import pytest

from tests.doubles.provider import ProviderDouble, Reply, ToolCall

OPENAI_MODEL, ANTHROPIC_MODEL = "gpt-6-luna", "claude-haiku-5-5"
CALLS = tuple(ToolCall(name="weather", arguments={"city": city}) for city in ("Oslo", "Bern"))
WEATHER: dict[str, object] = {"type": "object", "properties": {"city": {"type": "string"}}}


class Answer(pydantic.BaseModel):
    city: str
    degrees: int


@pytest.mark.parametrize("model", [OPENAI_MODEL, ANTHROPIC_MODEL])
async def test_openai_s_client_parses_structured_output(
    openai_client: openai.AsyncOpenAI, model: str
) -> None:
    parsed = await openai_client.chat.completions.parse(
        model=model, messages=[{"role": "user", "content": "Weather?"}], response_format=Answer
    )
    assert isinstance(parsed.choices[0].message.parsed, Answer)


@pytest.mark.parametrize("model", [OPENAI_MODEL, ANTHROPIC_MODEL])
async def test_anthropic_s_client_parses_structured_output(
    anthropic_client: anthropic.AsyncAnthropic, model: str
) -> None:
    parsed = await anthropic_client.messages.parse(
        model=model,
        max_tokens=100,
        messages=[{"role": "user", "content": "Weather?"}],
        output_format=Answer,
    )
    assert isinstance(parsed.parsed_output, Answer)


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
async def test_what_the_vendor_says_beside_its_answer_comes_through(
    openai_client: openai.AsyncOpenAI, provider: ProviderDouble, stream: bool
) -> None:
    asked = openai_client.chat.completions.with_raw_response
    if not stream:
        raw = await asked.create(
            model=OPENAI_MODEL, messages=[{"role": "user", "content": "Hi"}], verbosity="low"
        )
        answer = raw.parse()
        tier, print_, usage = answer.service_tier, answer.system_fingerprint, answer.usage
    else:
        events = await openai_client.chat.completions.create(
            model=OPENAI_MODEL,
            messages=[{"role": "user", "content": "Hi"}],
            verbosity="low",
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in events]
        assert [bool(chunk.usage) for chunk in chunks].index(True) == len(chunks) - 1
        tier, print_, usage = chunks[-1].service_tier, chunks[-1].system_fingerprint, chunks[-1].usage
    assert (tier, print_) == ("default", "fp_double")
    assert usage
    assert usage.completion_tokens_details
    assert usage.completion_tokens_details.accepted_prediction_tokens == 0
    assert provider.requests[-1].body["verbosity"] == "low"


@pytest.mark.parametrize("model", [OPENAI_MODEL, ANTHROPIC_MODEL])
async def test_parallel_calls_stream_apart(
    openai_client: openai.AsyncOpenAI,
    anthropic_client: anthropic.AsyncAnthropic,
    provider: ProviderDouble,
    model: str,
) -> None:
    provider.script(match=model, reply=Reply(tool_calls=CALLS), times=2)
    async with openai_client.chat.completions.stream(
        model=model,
        messages=[{"role": "user", "content": "Weather?"}],
        tools=[{"type": "function", "function": {"name": "weather", "parameters": WEATHER}}],
    ) as stream:
        completion = await stream.get_final_completion()
    made = completion.choices[0].message.tool_calls or []
    assert [call.function.arguments.replace(" ", "") for call in made] == [
        '{"city":"Oslo"}',
        '{"city":"Bern"}',
    ]
    async with anthropic_client.messages.stream(
        model=model,
        max_tokens=100,
        messages=[{"role": "user", "content": "Weather?"}],
        tools=[{"name": "weather", "input_schema": {"type": "object"}}],
    ) as events:
        message = await events.get_final_message()
    used = [block.input for block in message.content if block.type == "tool_use"]
    assert used == [{"city": "Oslo"}, {"city": "Bern"}]


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
async def test_thinking_goes_back_to_its_model(
    anthropic_client: anthropic.AsyncAnthropic, provider: ProviderDouble, stream: bool
) -> None:
    provider.script(match=ANTHROPIC_MODEL, reply=Reply(thinking="Let me see.", tool_calls=CALLS[:1]))
    messages: list[anthropic.types.MessageParam] = [{"role": "user", "content": "Weather?"}]
    tools: list[anthropic.types.ToolParam] = [{"name": "weather", "input_schema": {"type": "object"}}]
    answer: anthropic.types.Message
    if stream:
        async with anthropic_client.messages.stream(
            model=ANTHROPIC_MODEL, max_tokens=3000, messages=messages, tools=tools
        ) as events:
            answer = await events.get_final_message()
    else:
        answer = await anthropic_client.messages.create(
            model=ANTHROPIC_MODEL, max_tokens=3000, messages=messages, tools=tools
        )
    assert [block.type for block in answer.content] == ["thinking", "tool_use"]
    used = answer.content[1]
    assert used.type == "tool_use"
    result: anthropic.types.ToolResultBlockParam = {
        "type": "tool_result",
        "tool_use_id": used.id,
        "content": "Rain",
    }
    messages += [{"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
    # The double, as the vendor, refuses thinking whose signature is not its own.
    final = await anthropic_client.messages.create(
        model=ANTHROPIC_MODEL, max_tokens=3000, messages=messages, tools=tools
    )
    assert final.content[0].type == "text"
    assert provider.requests[-1].body["messages"][1]["content"][0]["type"] == "thinking"
    assert final._request_id


async def test_openai_s_client_hands_thinking_back_to_anthropic_s_model(
    openai_client: openai.AsyncOpenAI, provider: ProviderDouble
) -> None:
    provider.script(match=ANTHROPIC_MODEL, reply=Reply(thinking="Let me see.", tool_calls=CALLS[:1]))
    question: openai.types.chat.ChatCompletionMessageParam = {"role": "user", "content": "Weather?"}
    tools: list[openai.types.chat.ChatCompletionToolUnionParam] = [
        {"type": "function", "function": {"name": "weather", "parameters": WEATHER}}
    ]
    answer = await openai_client.chat.completions.create(
        model=ANTHROPIC_MODEL, messages=[question], tools=tools
    )
    said = answer.choices[0].message
    assert said.tool_calls
    await openai_client.chat.completions.create(
        model=ANTHROPIC_MODEL,
        tools=tools,
        messages=[
            question,
            said.model_dump(),  # type: ignore[list-item]
            {"role": "tool", "tool_call_id": said.tool_calls[0].id, "content": "Rain"},
        ],
    )
    blocks = provider.requests[-1].body["messages"][1]["content"]
    assert [block["type"] for block in blocks] == ["thinking", "tool_use"]


async def test_members_that_only_the_vendor_knows_reach_it(
    anthropic_client: anthropic.AsyncAnthropic, provider: ProviderDouble
) -> None:
    await anthropic_client.messages.create(
        model=ANTHROPIC_MODEL,
        max_tokens=100,
        service_tier="standard_only",
        tools=[{"name": "look", "input_schema": {"type": "object"}, "defer_loading": True}],
        messages=[
            {
                "role": "user",
                "content": [
                    {
                        "type": "document",
                        "source": {"type": "text", "media_type": "text/plain", "data": "The moon is far."},
                        "title": "Moon",
                        "context": "From the archive.",
                        "citations": {"enabled": True},
                    },
                    {"type": "text", "text": "How far?"},
                ],
            }
        ],
    )
    body = provider.requests[-1].body
    assert body["service_tier"] == "standard_only"
    assert body["tools"][0]["defer_loading"] is True
    assert body["messages"][0]["content"][0]["context"] == "From the archive."
    assert body["messages"][0]["content"][0]["citations"] == {"enabled": True}


@pytest.mark.parametrize("model", [ANTHROPIC_MODEL, OPENAI_MODEL])
async def test_what_is_switched_on_by_a_header_is_on_at_the_vendor(
    anthropic_client: anthropic.AsyncAnthropic, provider: ProviderDouble, model: str
) -> None:
    raw = await anthropic_client.beta.messages.with_raw_response.create(
        model=model,
        max_tokens=100,
        betas=["context-1m-2026-08-07", "interleaved-thinking-2026-05-14"],
        messages=[{"role": "user", "content": "Hi"}],
    )
    sent = provider.requests[-1].headers.get("anthropic-beta", "")
    if model == ANTHROPIC_MODEL:
        assert sent == "context-1m-2026-08-07,interleaved-thinking-2026-05-14"
        assert "x-quartet-adapted" not in raw.headers
    else:
        assert sent == ""
        assert raw.headers["x-quartet-adapted"] == "anthropic-beta"


async def test_embeddings_in_every_form(openai_client: openai.AsyncOpenAI, provider: ProviderDouble) -> None:
    model, texts = "text-embedding-3-small", ["a cat", "a kitten"]
    packed = await openai_client.embeddings.create(model=model, input=texts, dimensions=64, user="ann")
    floats = await openai_client.embeddings.create(
        model=model, input=texts, dimensions=64, encoding_format="float"
    )
    raw = await openai_client.embeddings.create(
        model=model, input=texts, dimensions=64, encoding_format="base64"
    )
    assert [len(item.embedding) for item in packed.data] == [64, 64]
    for numbers, item, text in zip(packed.data, floats.data, raw.data, strict=True):
        assert numbers.embedding == pytest.approx(item.embedding)
        (*unpacked,) = struct.unpack("<64f", base64.b64decode(str(text.embedding)))
        assert unpacked == pytest.approx(item.embedding)
    assert packed.usage.total_tokens > 0
    assert provider.requests[-1].body["dimensions"] == 64
