"""The double as Anthropic's client sees it."""

from typing import Any

import aiohttp
import anthropic
import pytest

from tests.doubles.provider import ProviderDouble, Reply, ToolCall
from tests.unit.doubles.asking import (
    ANTHROPIC_TOOL,
    CLAUDE,
    ask_claude,
    user,
)


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
