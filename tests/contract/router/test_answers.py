"""What the router answers, whole and in pieces, the same whether it is an object or a server."""

from contextlib import aclosing
from typing import Any

import pytest

from quartet.common.v1 import generation_pb2 as generation
from quartet.common.v1 import message_pb2 as message
from quartet.router.v1 import router_pb2 as pb
from services.kit.call import Call
from services.kit.errors import InvalidArgument, NotFound, ResourceExhausted
from tests.contract.router.conftest import Ask
from tests.doubles.provider import ProviderDouble, Reply, ToolCall, Usage

MODELS = ("gpt-6.1-terra", "claude-sonnet-5-5")
WEATHER = generation.Tool(
    name="weather",
    description="Tells the weather.",
    input_schema_json='{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}',
)


async def stream(router: Any, prompt: pb.Prompt, call: Call) -> list[pb.StreamGenerateResponse]:
    async with aclosing(router.stream_generate(pb.StreamGenerateRequest(prompt=prompt), call)) as events:
        return [event async for event in events]


async def generate(router: Any, prompt: pb.Prompt, call: Call) -> pb.GenerateResponse:
    response: pb.GenerateResponse = await router.generate(pb.GenerateRequest(prompt=prompt), call)
    return response


def text_of(events: list[pb.StreamGenerateResponse]) -> str:
    return "".join(event.delta.text for event in events)


@pytest.mark.parametrize("model", MODELS)
async def test_an_answer_is_the_same_whole_and_in_pieces(
    router: Any, double: ProviderDouble, call: Call, ask: Ask, model: str
) -> None:
    usage = Usage(input_tokens=1000, output_tokens=50, cached_tokens=400, reasoning_tokens=20)
    double.script(reply=Reply(text="Paris it is.", usage=usage), times=None)
    whole = await generate(router, ask("What is the capital?", model=model), call)
    events = await stream(router, ask("What is the capital?", model=model), call)
    assert whole.completion.message.parts[0].text == text_of(events) == "Paris it is."
    assert [event.WhichOneof("event") for event in (events[0], events[-1])] == ["decision", "end"]
    end = events[-1].end
    assert end.usage == whole.completion.usage
    assert end.finish_reason == whole.completion.finish_reason == generation.FINISH_REASON_STOP
    assert (end.usage.input_tokens, end.usage.cached_input_tokens) == (1000, 400)
    assert (end.usage.output_tokens, end.usage.reasoning_tokens, end.usage.model_calls) == (50, 20, 1)
    assert end.model == whole.decision.model == model


async def test_a_call_costs_what_the_price_list_says(
    router: Any, double: ProviderDouble, call: Call, ask: Ask
) -> None:
    usage = Usage(input_tokens=1000, output_tokens=50, cached_tokens=400, cache_write_tokens=100)
    double.script(reply=Reply(text="ok", usage=usage))
    answer = await generate(router, ask("hi", model="claude-sonnet-5-5"), call)
    # 500 plain at 2, 400 cached at 0.20, 100 written at 2.50, 50 out at 10 USD for a million.
    assert answer.completion.usage.cost_micro_usd == 1000 + 80 + 250 + 500


@pytest.mark.parametrize(
    ("model", "tier", "cost"),
    [
        # 600 plain, 400 cached and 50 out: at 1, 0.05 and 5 USD for a million, at half and at twice of it.
        ("gpt-6.1-terra", "default", 600 + 20 + 250),
        ("gpt-6.1-terra", "flex", 300 + 10 + 125),
        ("gpt-6.1-terra", "priority", 1200 + 40 + 500),
        # At 4, 0.20 and 20, and at half of it.
        ("claude-opus-5-5", "standard", 2400 + 80 + 1000),
        ("claude-opus-5-5", "batch", 1200 + 40 + 500),
        # Nobody says what the cache costs in a batch: 2, 0.20 and 10 alone, 1 and 5 in a batch.
        ("claude-sonnet-5-5", "batch", 600 + 80 + 250),
    ],
)
async def test_a_call_costs_what_the_tier_costs_at_which_it_was_served(
    router: Any, double: ProviderDouble, call: Call, ask: Ask, model: str, tier: str, cost: int
) -> None:
    usage = Usage(input_tokens=1000, output_tokens=50, cached_tokens=400)
    double.script(reply=Reply(text="ok", usage=usage, service_tier=tier), times=None)
    whole = (await generate(router, ask("hi", model=model), call)).completion.usage
    ended = (await stream(router, ask("hi", model=model), call))[-1].end.usage
    assert whole == ended
    assert (whole.service_tier, whole.cost_micro_usd) == (tier, cost)


@pytest.mark.parametrize(
    ("tokens", "tier", "cost"),
    [
        # 1 USD for a million, 5 for what is written, and above 272,000 tokens 2 and 7.50, at flex half of it.
        (272_000, "default", 272_000 + 500),
        (272_001, "default", 544_002 + 750),
        (272_001, "flex", 272_001 + 375),
    ],
)
async def test_a_long_prompt_is_reckoned_and_booked_by_the_prices_of_its_length(
    router: Any, double: ProviderDouble, call: Call, ask: Ask, tokens: int, tier: str, cost: int
) -> None:
    usage = Usage(input_tokens=tokens, output_tokens=100)
    double.script(reply=Reply(text="ok", usage=usage, service_tier=tier), times=None)
    prompt = ask("hi", model="gpt-6.1-terra", input_tokens=tokens)
    prompt.spec.max_output_tokens = 1
    whole = await generate(router, prompt, call)
    ended = (await stream(router, prompt, call))[-1].end.usage
    assert whole.completion.usage.cost_micro_usd == ended.cost_micro_usd == cost
    (candidate,) = whole.decision.candidates
    assert candidate.estimated_cost_micro_usd == (544_010 if tokens > 272_000 else 272_005)


@pytest.mark.parametrize("model", MODELS)
async def test_parallel_tool_calls_come_and_their_results_go_back(
    router: Any, double: ProviderDouble, call: Call, ask: Ask, model: str
) -> None:
    calls = (
        ToolCall(name="weather", arguments={"city": "Rome"}),
        ToolCall(name="weather", arguments={"city": "Oslo"}),
    )
    double.script(reply=Reply(tool_calls=calls), times=2)
    prompt = ask("How is the weather in Rome and in Oslo?", model=model)
    prompt.spec.tools.append(WEATHER)
    whole = await generate(router, prompt, call)
    events = await stream(router, prompt, call)
    assert whole.completion.finish_reason == generation.FINISH_REASON_TOOL_CALLS
    asked = [part.tool_call for part in whole.completion.message.parts]
    assert [(one.name, one.arguments_json) for one in asked] == [
        ("weather", '{"city":"Rome"}'),
        ("weather", '{"city":"Oslo"}'),
    ]
    streamed: dict[int, message.ToolCall] = {}
    for event in events[1:-1]:
        piece = streamed.setdefault(event.delta.part_index, message.ToolCall())
        piece.arguments_json += event.delta.tool_call.arguments_json
        piece.name += event.delta.tool_call.name
    assert [(one.name, one.arguments_json) for one in streamed.values()] == [
        (one.name, one.arguments_json) for one in asked
    ]
    prompt.messages.append(whole.completion.message)
    for one in asked:
        result = message.ToolResult(tool_call_id=one.id, content=[message.Part(text=f"sunny for {one.id}")])
        prompt.messages.append(
            message.Message(role=message.ROLE_TOOL, parts=[message.Part(tool_result=result)])
        )
    final = await generate(router, prompt, call)
    assert "sunny for" in final.completion.message.parts[0].text


async def test_thinking_comes_with_its_signature_and_goes_back_to_the_model_that_made_it(
    router: Any, double: ProviderDouble, call: Call, ask: Ask
) -> None:
    double.script(reply=Reply(thinking="Let me see.", text="Yes."), times=2)
    prompt = ask("Is it so?", model="claude-opus-5-5")
    whole = await generate(router, prompt, call)
    events = await stream(router, prompt, call)
    thought = whole.completion.message.parts[0].thinking
    assert (thought.text, bool(thought.signature)) == ("Let me see.", True)
    assert "".join(event.delta.thinking.text for event in events) == thought.text
    assert "".join(event.delta.thinking.signature for event in events) == thought.signature
    prompt.messages.append(whole.completion.message)
    prompt.messages.append(message.Message(role=message.ROLE_USER, parts=[message.Part(text="Sure?")]))
    again = await generate(router, prompt, call)
    assert not again.completion.adapted
    prompt.target.model = "claude-opus-4-20250514"
    moved = await generate(router, prompt, call)
    assert list(moved.completion.adapted) == ["thinking"]


async def test_what_a_model_does_not_take_is_dropped_and_said(
    router: Any, double: ProviderDouble, call: Call, ask: Ask
) -> None:
    for model in MODELS:
        prompt = ask("hi", model=model)
        prompt.spec.temperature = 0.2
        prompt.spec.top_k = 5
        answer = await generate(router, prompt, call)
        assert set(answer.completion.adapted) == {"temperature", "top_k"}
    assert all("temperature" not in request.body for request in double.requests)


async def test_an_older_claude_still_gets_its_temperature(
    router: Any, double: ProviderDouble, call: Call, ask: Ask
) -> None:
    prompt = ask("hi", model="claude-opus-4-6")
    prompt.spec.temperature = 0.2
    answer = await generate(router, prompt, call)
    assert not answer.completion.adapted
    assert double.requests[0].body["temperature"] == 0.2


async def test_forced_tool_use_is_refused_where_the_model_refuses_it(
    router: Any, double: ProviderDouble, call: Call, ask: Ask
) -> None:
    prompt = ask("hi", model="claude-sonnet-5-5")
    prompt.spec.tools.append(WEATHER)
    prompt.spec.tool_choice.mode = generation.ToolChoice.MODE_REQUIRED
    with pytest.raises(InvalidArgument, match="tool_choice"):
        await generate(router, prompt, call)
    assert double.calls() == 0


async def test_a_dead_model_is_answered_by_its_successor_with_a_warning(
    router: Any, double: ProviderDouble, call: Call, ask: Ask
) -> None:
    answer = await generate(router, ask("hi", model="claude-opus-4-20250514"), call)
    assert answer.completion.model == "claude-opus-5-5"
    assert "2026-06-15" in answer.decision.warnings[0]


async def test_an_unknown_model_is_not_found_and_close_ones_are_named(
    router: Any, call: Call, ask: Ask
) -> None:
    with pytest.raises(NotFound, match="gpt-6-luna") as caught:
        await generate(router, ask("hi", model="gpt-6-lunar"), call)
    assert caught.value.reason == "MODEL_NOT_FOUND"


async def test_more_output_than_the_route_allows_becomes_the_smaller(
    router: Any, double: ProviderDouble, call: Call, ask: Ask
) -> None:
    prompt = ask("What is the capital of France?")
    prompt.spec.max_output_tokens = 5000
    answer = await generate(router, prompt, call)
    assert answer.decision.max_output_tokens == 200
    assert double.requests[0].body["max_completion_tokens"] == 200
    assert list(answer.completion.adapted) == ["max_output_tokens"]


async def test_a_rule_can_hand_over_to_a_pipeline_but_not_for_a_caller_that_takes_models_only(
    router: Any, double: ProviderDouble, call: Call, ask: Ask
) -> None:
    events = await stream(router, ask("What do our documents say about refunds?"), call)
    assert len(events) == 1
    assert events[0].decision.handler.pipeline.name == "rag_answer"
    assert double.calls() == 0
    whole = await generate(router, ask("What do our documents say about refunds?", models_only=True), call)
    assert whole.decision.handler.WhichOneof("kind") == "model"


@pytest.mark.parametrize("bound", ["max_tokens", "max_cost_micro_usd", "max_model_calls"])
async def test_a_budget_of_zero_allows_nothing(
    router: Any, double: ProviderDouble, call: Call, ask: Ask, bound: str
) -> None:
    prompt = ask("hi")
    setattr(prompt.budget, bound, 0)
    with pytest.raises(ResourceExhausted) as caught:
        await generate(router, prompt, call)
    assert caught.value.reason == "BUDGET_EXHAUSTED"
    assert caught.value.metadata["bound"] == bound
    assert double.calls() == 0


@pytest.mark.parametrize(("asked", "most"), [("default", 180), ("priority", 80)])
async def test_a_budget_goes_by_the_price_of_the_tier_that_is_asked_for(
    router: Any, double: ProviderDouble, call: Call, ask: Ask, asked: str, most: int
) -> None:
    prompt = ask("hi", model="gpt-6-luna")
    prompt.input_tokens, prompt.spec.max_output_tokens = 100, 500
    prompt.spec.extra_json, prompt.spec.extra_dialect = f'{{"service_tier":"{asked}"}}', "openai"
    prompt.budget.max_cost_micro_usd = 100
    await generate(router, prompt, call)
    assert double.requests[-1].body["max_completion_tokens"] == most


async def test_a_request_is_not_changed_by_serving_it(
    router: Any, double: ProviderDouble, call: Call, ask: Ask
) -> None:
    prompt = ask("hi")
    prompt.spec.temperature = 0.5
    request = pb.GenerateRequest(prompt=prompt)
    before = request.SerializeToString(deterministic=True)
    await router.generate(request, call)
    assert request.SerializeToString(deterministic=True) == before


async def test_a_schema_is_obeyed_by_both_vendors(
    router: Any, double: ProviderDouble, call: Call, ask: Ask
) -> None:
    schema = '{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}'
    for model in MODELS:
        prompt = ask("Count.", model=model)
        prompt.spec.response_format.kind = generation.ResponseFormat.KIND_JSON_SCHEMA
        prompt.spec.response_format.schema_json = schema
        answer = await generate(router, prompt, call)
        assert answer.completion.message.parts[0].text == '{"n":1}'


async def test_without_any_provider_the_variables_to_set_are_named(
    keyless_router: Any, call: Call, ask: Ask
) -> None:
    for prompt in (ask("hi"), ask("hi", model="gpt-6-luna")):
        with pytest.raises(InvalidArgument, match="OPENAI_API_KEY") as caught:
            await generate(keyless_router, prompt, call)
        assert caught.value.reason == "NO_MODEL_CONFIGURED"


async def test_without_any_provider_passages_are_answered_by_quoting_them(
    keyless_router: Any, call: Call, ask: Ask
) -> None:
    document = (
        "Preface. The warranty lasts 24 months from the day of purchase. Batteries are not covered. The end."
    )
    start = document.index("The warranty")
    passages = [
        message.Passage(
            document_id="d0", chunk_id="c0", title="Recipes", text="Boil the eggs for six minutes."
        ),
        message.Passage(
            document_id="d1",
            chunk_id="c1",
            title="Warranty",
            text=document[start:],
            start_char=start,
            end_char=len(document),
            collection="shop",
        ),
    ]
    prompt = ask("How long does the warranty last?")
    for place, passage in enumerate(passages):
        prompt.messages[0].parts.insert(place, message.Part(passage=passage))
    answer = await generate(keyless_router, prompt, call)
    assert answer.completion.model == "local/extractive"
    part = answer.completion.message.parts[0]
    assert part.text.startswith("The warranty lasts 24 months from the day of purchase. [2]")
    citation = part.citations[0]
    assert document[citation.start_char : citation.end_char] == citation.quote
    assert part.text[citation.answer_start_char : citation.answer_end_char] == citation.quote
    assert (citation.document_id, citation.index, citation.collection) == ("d1", 2, "shop")
    assert answer.completion.usage.cost_micro_usd == 0
    events = await stream(keyless_router, prompt, call)
    assert text_of(events) == part.text
    assert [e.delta.citation for e in events if e.delta.WhichOneof("kind") == "citation"] == list(
        part.citations
    )


async def test_a_quote_that_is_too_long_is_cut_and_said_to_be(
    keyless_router: Any, call: Call, ask: Ask
) -> None:
    prompt = ask("How long does the warranty last?")
    text = "The warranty lasts 24 months from the day of purchase."
    prompt.messages[0].parts.insert(0, message.Part(passage=message.Passage(title="Warranty", text=text)))
    prompt.spec.max_output_tokens = 5
    answer = await generate(keyless_router, prompt, call)
    part = answer.completion.message.parts[0]
    assert answer.completion.finish_reason == generation.FINISH_REASON_LENGTH
    assert part.text == text[:20] == part.citations[0].quote


async def test_passages_that_do_not_answer_are_said_not_to(keyless_router: Any, call: Call, ask: Ask) -> None:
    prompt = ask("Who won the chess championship of 1972?")
    passage = message.Passage(
        document_id="d", chunk_id="c", title="Recipes", text="Boil the eggs for six minutes."
    )
    prompt.messages[0].parts.insert(0, message.Part(passage=passage))
    answer = await generate(keyless_router, prompt, call)
    part = answer.completion.message.parts[0]
    assert "do not contain" in part.text
    assert not part.citations
    assert answer.completion.finish_reason == generation.FINISH_REASON_STOP


async def test_models_are_listed_with_what_keeps_them_from_use(
    router: Any, keyless_router: Any, call: Call
) -> None:
    listed = {m.id: m for m in (await router.list_models(pb.ListModelsRequest(), call)).models}
    assert listed["gpt-6-luna"].available
    (longer,) = listed["gpt-6-luna"].longer_prices
    assert (longer.above_input_tokens, longer.input_micro_usd_per_mtok) == (272_000, 200_000)
    assert (longer.output_micro_usd_per_mtok, longer.cached_input_micro_usd_per_mtok) == (750_000, 20_000)
    assert not listed["claude-opus-5-5"].longer_prices
    assert not listed["claude-sonnet-4-20250514"].available
    assert listed["claude-sonnet-4-20250514"].successor == "claude-sonnet-5-5"
    keyless = {m.id: m for m in (await keyless_router.list_models(pb.ListModelsRequest(), call)).models}
    assert "OPENAI_API_KEY" in keyless["gpt-6-luna"].unavailable_because
    assert keyless["local/minilm"].available


async def test_vectors_come_from_the_local_model_and_from_openai(
    router: Any, double: ProviderDouble, call: Call
) -> None:
    local = await router.embed(pb.EmbedRequest(texts=["a dog", "a cat", "tax law"]), call)
    assert (local.model, local.dimension, len(local.vectors)) == ("local/minilm", 384, 3 * 384 * 4)
    assert local.usage.cost_micro_usd == 0
    bought = await router.embed(
        pb.EmbedRequest(texts=["a dog"] * 3, model="text-embedding-3-small", dimensions=256), call
    )
    assert (bought.dimension, len(bought.vectors)) == (256, 3 * 256 * 4)
    assert bought.usage.cost_micro_usd == 1
    with pytest.raises(InvalidArgument, match="does not embed"):
        await router.embed(pb.EmbedRequest(texts=["a"], model="gpt-6-luna"), call)


async def test_route_gives_the_decision_that_generate_would_make_and_spends_nothing(
    router: Any, double: ProviderDouble, call: Call, ask: Ask
) -> None:
    prompt = ask("Write a Python function that adds two numbers.")
    decision = (await router.route(pb.RouteRequest(prompt=prompt), call)).decision
    assert double.calls() == 0
    assert 0 < decision.uplift < 1
    # An explanation tells the uplift even where no policy asks for it.
    decision.ClearField("uplift")
    assert decision == (await generate(router, prompt, call)).decision
    assert (decision.route, decision.rule, decision.max_output_tokens) == ("code_gen", "write-code", 8000)
