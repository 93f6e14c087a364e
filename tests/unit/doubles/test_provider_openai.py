"""The double as OpenAI's client sees it."""

import json
import math
from typing import Any

import openai
import pytest

from tests.doubles.provider import ProviderDouble, Reply, ToolCall
from tests.unit.doubles.asking import (
    GPT,
    OPENAI_TOOL,
    SCHEMA,
    ask_gpt,
    texts_of_gpt,
    user,
)


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
