"""OpenAI's stock SDK on its Responses API, through Envoy, gateway and router to both vendors."""

from typing import Literal

import openai
import pydantic
import pytest
from openai.types.responses import (
    FunctionToolParam,
    Response,
    ResponseFunctionToolCall,
    ResponseInputItemParam,
)

from tests.doubles.provider import Fault, ProviderDouble, Reply, ToolCall, Usage
from tests.e2e.suite import Suite

OPENAI_MODEL, ANTHROPIC_MODEL = "gpt-6-luna", "claude-haiku-5-5"
LIMITED_MODEL = "gpt-5.1"
"""Asked once: after that it is left alone for a time."""
WEATHER: FunctionToolParam = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": False,
}
PIXEL = "data:image/png;base64,iVBORw0KGgo="


class Answer(pydantic.BaseModel):
    city: str
    degrees: int


@pytest.mark.parametrize("model", [OPENAI_MODEL, ANTHROPIC_MODEL, "auto"])
async def test_it_answers_with_either_vendor(openai_client: openai.AsyncOpenAI, model: str) -> None:
    response = await openai_client.responses.create(model=model, input="Say pineapple")
    assert "pineapple" in response.output_text
    assert response.status == "completed"
    assert response.usage
    assert response.usage.total_tokens > 0


@pytest.mark.parametrize("model", [OPENAI_MODEL, ANTHROPIC_MODEL])
async def test_it_streams_from_either_vendor(openai_client: openai.AsyncOpenAI, model: str) -> None:
    text = ""
    async with openai_client.responses.stream(model=model, input="Say pineapple") as stream:
        async for event in stream:
            if event.type == "response.output_text.delta":
                text += event.delta
        response = await stream.get_final_response()
    assert "pineapple" in text
    assert response.output_text == text


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
@pytest.mark.parametrize(("asked", "served", "cost"), [("flex", "flex", 750), ("flex", "default", 1500)])
async def test_what_was_served_at_the_flex_tier_costs_half(
    openai_client: openai.AsyncOpenAI,
    provider: ProviderDouble,
    asked: Literal["flex"],
    served: str,
    cost: int,
    stream: bool,
) -> None:
    used = Usage(input_tokens=10_000, output_tokens=1000)
    provider.script(match=OPENAI_MODEL, reply=Reply(text="Yes.", usage=used, service_tier=served))
    question = "Is it so?"
    response: Response
    if stream:
        async with openai_client.responses.stream(
            model=OPENAI_MODEL, input=question, service_tier=asked
        ) as events:
            response = await events.get_final_response()
    else:
        response = await openai_client.responses.create(
            model=OPENAI_MODEL, input=question, service_tier=asked
        )
    assert provider.requests[-1].body["service_tier"] == asked
    assert response.service_tier == served
    assert response.usage
    assert response.usage.model_dump()["quartet"]["cost_micro_usd"] == cost


@pytest.mark.parametrize("model", [OPENAI_MODEL, ANTHROPIC_MODEL])
@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
async def test_it_calls_tools_over_several_turns(
    openai_client: openai.AsyncOpenAI, provider: ProviderDouble, model: str, stream: bool
) -> None:
    calls = tuple(ToolCall(name="weather", arguments={"city": city}) for city in ("Oslo", "Bern"))
    provider.script(match=model, reply=Reply(text="I look.", tool_calls=calls))
    items: list[ResponseInputItemParam] = [{"role": "user", "content": "Weather?"}]
    response: Response
    if stream:
        async with openai_client.responses.stream(model=model, input=items, tools=[WEATHER]) as events:
            response = await events.get_final_response()
    else:
        response = await openai_client.responses.create(model=model, input=items, tools=[WEATHER])
    made = [item for item in response.output if isinstance(item, ResponseFunctionToolCall)]
    assert [call.arguments.replace(" ", "") for call in made] == ['{"city":"Oslo"}', '{"city":"Bern"}']
    items += response.output  # type: ignore[arg-type]
    items += [
        {"type": "function_call_output", "call_id": call.call_id, "output": f"Rain {number}"}
        for number, call in enumerate(made)
    ]
    final = await openai_client.responses.create(model=model, input=items, tools=[WEATHER])
    assert "Rain 1" in final.output_text


async def test_reasoning_is_handed_back_with_its_signature(
    openai_client: openai.AsyncOpenAI, provider: ProviderDouble
) -> None:
    call = ToolCall(name="weather", arguments={"city": "Oslo"})
    provider.script(match=ANTHROPIC_MODEL, reply=Reply(thinking="Let me see.", tool_calls=(call,)))
    items: list[ResponseInputItemParam] = [{"role": "user", "content": "Weather?"}]
    response = await openai_client.responses.create(model=ANTHROPIC_MODEL, input=items, tools=[WEATHER])
    assert [item.type for item in response.output] == ["reasoning", "function_call"]
    items += response.output  # type: ignore[arg-type]
    call_id = response.output[1].call_id  # type: ignore[union-attr]
    items.append({"type": "function_call_output", "call_id": str(call_id), "output": "Rain"})
    # The double, as the vendor, refuses thinking whose signature is not its own.
    await openai_client.responses.create(model=ANTHROPIC_MODEL, input=items, tools=[WEATHER])
    said = provider.requests[-1].body["messages"][1]["content"]
    assert [block["type"] for block in said] == ["thinking", "tool_use"]


@pytest.mark.parametrize("model", [OPENAI_MODEL, ANTHROPIC_MODEL])
async def test_it_parses_structured_output(openai_client: openai.AsyncOpenAI, model: str) -> None:
    parsed = await openai_client.responses.parse(model=model, input="Weather?", text_format=Answer)
    assert isinstance(parsed.output_parsed, Answer)


@pytest.mark.parametrize("model", [OPENAI_MODEL, ANTHROPIC_MODEL])
async def test_it_takes_pictures(
    openai_client: openai.AsyncOpenAI, provider: ProviderDouble, model: str
) -> None:
    await openai_client.responses.create(
        model=model,
        input=[
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "What is it?"},
                    {"type": "input_image", "image_url": PIXEL, "detail": "auto"},
                ],
            }
        ],
    )
    assert "iVBORw0KGgo=" in str(provider.requests[-1].body)


async def test_errors_are_the_sdk_s_own_classes(
    openai_client: openai.AsyncOpenAI, provider: ProviderDouble
) -> None:
    with pytest.raises(openai.NotFoundError, match="no-such-model"):
        await openai_client.responses.create(model="no-such-model", input="Hi")
    with pytest.raises(openai.BadRequestError, match="send the earlier items in `input`") as raised:
        await openai_client.responses.create(model="auto", input="Hi", previous_response_id="resp_1")
    assert raised.value.param == "previous_response_id"
    provider.script(match=LIMITED_MODEL, fault=Fault(status=429, retry_after_s=30), times=None)
    with pytest.raises(openai.RateLimitError):
        await openai_client.responses.create(model=LIMITED_MODEL, input="Hi")


async def test_a_stream_that_breaks_ends_as_failed(
    openai_client: openai.AsyncOpenAI, provider: ProviderDouble
) -> None:
    provider.script(match=OPENAI_MODEL, reply=Reply(chunks=10), fault=Fault(cut_after_chunks=3))
    stream = await openai_client.responses.create(
        model=OPENAI_MODEL, input="Say a few words please", stream=True
    )
    events = [event async for event in stream]
    assert events[-1].type == "response.failed"


async def test_what_is_asked_of_documents_is_answered_with_annotations(suite: Suite) -> None:
    url, key = f"{suite.url}/v1", suite.api_key
    async with openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0) as client:
        response = await client.responses.create(
            model="rag/default", input="What does the router do?", stream=False
        )
    content = response.output[0].content[0]  # type: ignore[union-attr,index]
    assert content.annotations  # type: ignore[union-attr]
