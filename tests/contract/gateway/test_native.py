import asyncio
from contextlib import aclosing

import pytest

from quartet.common.v1 import decision_pb2, generation_pb2, message_pb2, run_pb2
from quartet.gateway.v1 import gateway_pb2
from services.gateway.domain.keys import make_key
from services.gateway.domain.response_entries import Slot
from services.kit.errors import (
    DeadlineExceeded,
    InvalidArgument,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
)
from tests.contract.gateway.conftest import Gateway, read_to_error
from tests.contract.gateway.neighbours import MODEL


def generation(name: str = "", text: str = "Hello", **members: object) -> gateway_pb2.Generation:
    target = gateway_pb2.Target(name=name) if name else None
    message = message_pb2.Message(role=message_pb2.ROLE_USER, parts=[message_pb2.Part(text=text)])
    return gateway_pb2.Generation(target=target, messages=[message], **members)  # type: ignore[arg-type]


def ask(name: str = "", text: str = "Hello", **members: object) -> gateway_pb2.GenerateRequest:
    return gateway_pb2.GenerateRequest(generation=generation(name, text, **members))


async def events_of(gateway: Gateway, name: str) -> list[gateway_pb2.StreamGenerateResponse]:
    request = gateway_pb2.StreamGenerateRequest(generation=generation(name))
    return [event async for event in gateway.native.stream_generate(request, gateway.call())]


def text_of(events: list[gateway_pb2.StreamGenerateResponse]) -> str:
    return "".join(event.delta.text for event in events)


async def test_an_answer_tells_its_decision_and_headers(gateway: Gateway) -> None:
    call = gateway.call(x_request_id="abc")
    response = await gateway.native.generate(ask(), call)
    assert response.completion.message.parts[0].text == "Hello there"
    assert response.decision.route == "simple_faq"
    headers = call.response_headers
    assert headers["x-quartet-route"] == "simple_faq"
    assert headers["x-quartet-rule"] == "greeting"
    assert headers["x-quartet-model"] == MODEL
    assert headers["x-quartet-cache"] == "miss"
    assert headers["x-request-id"] == "abc"


async def test_the_tenant_comes_from_the_key_alone(gateway: Gateway) -> None:
    await gateway.native.generate(ask(), gateway.call(x_quartet_tenant="evil"))
    assert gateway.router.calls[0].tenant == "acme"
    assert gateway.router.calls[0].key_id == next(iter(gateway.keys.keys))


async def test_a_stream_begins_with_the_decision_and_ends_with_usage(gateway: Gateway) -> None:
    events = await events_of(gateway, "auto")
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds == ["decision", "delta", "delta", "end"]
    assert [event.event_number for event in events] == [1, 2, 3, 4]
    assert text_of(events) == "Hello there"
    assert events[-1].end.usage.cost_micro_usd == 42


@pytest.mark.parametrize(
    ("name", "kind", "value"), [("route/technical", "route", "technical"), ("gpt-4o", "model", "gpt-4o")]
)
async def test_models_and_routes_go_to_the_router_by_name(
    gateway: Gateway, name: str, kind: str, value: str
) -> None:
    await gateway.native.generate(ask(name), gateway.call())
    target = gateway.router.prompts[0].target
    assert target.WhichOneof("kind") == kind
    assert getattr(target, kind) == value


async def test_a_collection_is_answered_by_the_rag_pipeline(gateway: Gateway) -> None:
    response = await gateway.native.generate(ask("rag/docs"), gateway.call())
    assert gateway.pipeline.inputs[0].pipeline == "rag_answer"
    assert gateway.pipeline.inputs[0].collection == "docs"
    assert response.completion.message.parts[0].citations[0].document_id == "d1"
    assert response.stages[0].stage == "retrieve"
    assert response.decision.rule == "named"
    assert not gateway.router.prompts


async def test_a_pipelines_stream_holds_stages_and_the_cited_end(gateway: Gateway) -> None:
    events = await events_of(gateway, "rag/docs")
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds == ["decision", "stage", "delta", "delta", "end"]
    assert events[-1].end.message.parts[0].citations[0].quote == "The moon is far."


async def test_text_that_was_never_streamed_comes_before_the_end(gateway: Gateway) -> None:
    gateway.pipeline.speaks = False
    events = await events_of(gateway, "rag/docs")
    assert [event.WhichOneof("event") for event in events] == ["decision", "stage", "delta", "end"]
    assert text_of(events) == "The moon is far."


async def test_the_agent_answers_with_its_run(gateway: Gateway) -> None:
    response = await gateway.native.generate(ask("agent/docs"), gateway.call())
    assert response.run.id == "r1"
    assert response.run.stop_reason == run_pb2.STOP_REASON_DONE
    assert gateway.orchestrator.tasks[0].collection == "docs"
    assert gateway.orchestrator.keys == [""]


async def test_each_request_with_a_key_has_a_run_of_its_own(gateway: Gateway) -> None:
    for name, key in (("agent/docs", "a"), ("agent/docs", "b"), ("agent/space", "c")):
        await gateway.native.generate(ask(name, idempotency_key=key), gateway.call())
    for key in "ab":
        gateway.responses.lose(Slot("acme", key))
    await gateway.native.generate(ask("agent/docs", idempotency_key="a"), gateway.call())
    await gateway.native.generate(ask("agent/space", idempotency_key="b"), gateway.call())
    *first, again, other = gateway.orchestrator.keys
    assert again == first[0]
    assert len({*first, other}) == 4
    assert all(key.startswith("answer/") for key in (*first, other))


async def test_the_agents_stream_holds_its_events(gateway: Gateway) -> None:
    events = await events_of(gateway, "agent")
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds == ["decision", "run_event", "run_event", "run_event", "delta", "end"]
    assert text_of(events) == "The moon is far."


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_decision_for_a_pipeline_is_carried_out_within_the_routes_limit(
    gateway: Gateway, streamed: bool
) -> None:
    gateway.router.decision = decision_pb2.Decision(
        route="documents",
        rule="mentions_documents",
        handler=decision_pb2.Handler(
            pipeline=decision_pb2.PipelineTarget(name="rag_answer", collection="docs")
        ),
        max_output_tokens=77,
    )
    if streamed:
        assert text_of(await events_of(gateway, "auto")) == "The moon is far."
    else:
        response = await gateway.native.generate(ask(), gateway.call())
        assert response.decision.route == "documents"
    assert gateway.pipeline.inputs[0].spec.max_output_tokens == 77


@pytest.mark.parametrize("name", ["agent", "rag/docs", "pipeline/rag_answer"])
async def test_a_clients_tools_stay_with_a_model(gateway: Gateway, name: str) -> None:
    spec = generation_pb2.GenerationSpec(tools=[generation_pb2.Tool(name="weather")])
    with pytest.raises(InvalidArgument) as caught:
        await gateway.native.generate(ask(name, spec=spec), gateway.call())
    assert caught.value.reason == "TOOLS_NOT_SUPPORTED"
    await gateway.native.generate(ask("auto", spec=spec), gateway.call())
    assert gateway.router.prompts[0].models_only


async def test_headers_shape_the_request(gateway: Gateway) -> None:
    call = gateway.call(
        x_quartet_budget_micro_usd="0",
        x_quartet_session="s",
        x_quartet_labels="Team=search, tier=Gold",
        x_quartet_priority="critical",
        cache_control="no-store",
        x_quartet_timeout_ms="2000",
    )
    await gateway.native.generate(ask(), call)
    prompt = gateway.router.prompts[0]
    assert prompt.budget.HasField("max_cost_micro_usd")
    assert prompt.budget.max_cost_micro_usd == 0
    assert (prompt.session, prompt.cache_control) == ("s", "no-store")
    assert dict(prompt.labels) == {"team": "search", "tier": "Gold"}
    assert prompt.priority == generation_pb2.PRIORITY_CRITICAL
    assert gateway.router.calls[0].remaining_s() < 2.5  # gRPC rounds a time up


async def test_what_is_said_of_caches_reaches_pipelines_and_runs(gateway: Gateway) -> None:
    for target in ("rag/docs", "agent/docs"):
        await gateway.native.generate(ask(target), gateway.call(cache_control="no-store"))
    assert gateway.pipeline.inputs[0].cache_control == "no-store"
    assert gateway.orchestrator.tasks[0].cache_control == "no-store"


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("x_quartet_budget_micro_usd", "-1"),
        ("x_quartet_budget_micro_usd", "9" * 400),
        ("x_quartet_timeout_ms", "0"),
        ("x_quartet_timeout_ms", "soon"),
        ("x_quartet_priority", "highest"),
        ("idempotency_key", "k" * 257),
        ("x_quartet_labels", "team"),
        ("x_quartet_labels", "team="),
        ("x_quartet_labels", "=search"),
        ("x_quartet_labels", "team=search,"),
        ("x_quartet_labels", "te am=search"),
        ("x_quartet_labels", "team=" + "x" * 129),
        ("x_quartet_labels", "t" * 65 + "=x"),
        ("x_quartet_labels", "team=search, team=ads"),
        ("x_quartet_labels", ",".join(f"l{number}=x" for number in range(17))),
    ],
)
async def test_a_wrong_header_is_named(gateway: Gateway, header: str, value: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await gateway.native.generate(ask(), gateway.call(**{header: value}))
    assert caught.value.reason == "INVALID_HEADER"
    assert caught.value.field_violations[0].field == header.replace("_", "-")


async def test_labels_of_the_body_go_before_those_of_the_header(gateway: Gateway) -> None:
    call = gateway.call(x_quartet_labels="team=ads,tier=gold")
    await gateway.native.generate(ask(labels={"team": "search"}), call)
    assert dict(gateway.router.prompts[0].labels) == {"team": "search", "tier": "gold"}
    many = {f"l{number}": "x" for number in range(16)}
    await gateway.native.generate(ask(labels=many), gateway.call())
    with pytest.raises(InvalidArgument) as caught:
        await gateway.native.generate(ask(labels=many), gateway.call(x_quartet_labels="one=more"))
    assert caught.value.reason == "INVALID_HEADER"


async def test_too_many_tokens_are_refused_before_the_router_is_called(gateway: Gateway) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await gateway.native.generate(ask("gpt-4o", text="one two three " * 80_000), gateway.call())
    assert caught.value.reason == "TOKEN_LIMIT_EXCEEDED"
    assert caught.value.metadata["limit"] == "200000"
    assert caught.value.metadata["model"] == "gpt-4o"
    assert int(caught.value.metadata["count"]) == pytest.approx(240_000, rel=0.01)
    assert not gateway.router.calls


async def test_a_call_without_a_key_is_told_what_to_send(gateway: Gateway) -> None:
    call = gateway.call()
    call.metadata = {}
    with pytest.raises(Unauthenticated) as caught:
        await gateway.native.generate(ask(), call)
    assert "Authorization: Bearer" in caught.value.message
    assert not gateway.router.calls


async def test_a_narrow_key_is_held_to_its_scopes(gateway: Gateway) -> None:
    key, secret = make_key(tenant="acme", scopes=frozenset({"rpc:Generate", "route:simple_faq"}))
    gateway.keys.keys[key.id] = key
    gateway.secret = secret
    await gateway.native.generate(ask("route/simple_faq"), gateway.call())
    for name in ("auto", "gpt-4o", "route/technical", "rag/docs", "agent"):
        with pytest.raises(PermissionDenied):
            await gateway.native.generate(ask(name), gateway.call())
    with pytest.raises(PermissionDenied):
        await gateway.native.explain_route(
            gateway_pb2.ExplainRouteRequest(generation=generation()), gateway.call()
        )


async def test_a_stream_ends_with_the_error_that_broke_it(gateway: Gateway) -> None:
    gateway.router.error, gateway.router.error_after = Unavailable("all failed", reason="PROVIDER_FAILED"), 1
    request = gateway_pb2.StreamGenerateRequest(generation=generation())
    seen, error = await read_to_error(gateway.native.stream_generate(request, gateway.call()))
    assert [event.WhichOneof("event") for event in seen] == ["decision", "delta"]
    assert isinstance(error, Unavailable)
    assert error.reason == "PROVIDER_FAILED"


async def test_a_client_that_goes_away_cancels_the_router(gateway: Gateway) -> None:
    gateway.router.pause = asyncio.Event()
    request = gateway_pb2.StreamGenerateRequest(generation=generation())
    async with aclosing(gateway.native.stream_generate(request, gateway.call())) as events:
        async for event in events:
            if event.WhichOneof("event") == "delta":
                break
    await asyncio.wait_for(gateway.router.closed.wait(), 1)


async def test_a_client_that_gives_up_a_whole_answer_cancels_the_router(gateway: Gateway) -> None:
    gateway.router.pause = asyncio.Event()
    asking = asyncio.create_task(gateway.native.generate(ask(), gateway.call()))
    await gateway.router.asked.wait()
    asking.cancel()
    await asyncio.wait_for(gateway.router.closed.wait(), 1)
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_time_that_runs_out_is_a_typed_error(gateway: Gateway) -> None:
    gateway.router.pause = asyncio.Event()
    with pytest.raises(DeadlineExceeded):
        await gateway.native.generate(ask(), gateway.call(x_quartet_timeout_ms="100"))


async def test_hostile_credentials_cost_one_look_up_each_and_open_nothing(gateway: Gateway) -> None:
    hostile = [
        "' OR '1'='1",
        "qk_",
        "qk_000000000000_",
        "qk_000000000000_" + "0" * 64,
        gateway.secret[:-1],
        gateway.secret + "0",
        gateway.secret.upper(),
        "x" * 5000,
        "Bearer",
        "%00",
        "../../etc/passwd",
        "{{7*7}}",
    ]
    for text in hostile:
        gateway.keys.looked_up.clear()
        with pytest.raises(Unauthenticated):
            await gateway.native.generate(ask(), gateway.call(authorization=f"Bearer {text}"))
        assert len(gateway.keys.looked_up) == 1
    assert not gateway.router.calls


async def test_the_router_can_be_asked_why(gateway: Gateway) -> None:
    request = gateway_pb2.ExplainRouteRequest(generation=generation(text="Hello world"))
    response = await gateway.native.explain_route(request, gateway.call())
    assert response.decision.rule == "greeting"
    assert response.input_tokens > 0


async def test_every_name_is_listed(gateway: Gateway) -> None:
    response = await gateway.native.list_models(gateway_pb2.ListModelsRequest(), gateway.call())
    assert [model.id for model in response.models] == [
        "auto",
        "route/simple_faq",
        MODEL,
        "pipeline/rag_answer",
        "rag/docs",
        "agent",
        "agent/docs",
    ]
    assert gateway.pipeline.tenants == ["acme"]
    (longer,) = response.models[2].longer_prices
    assert (longer.above_input_tokens, longer.input_micro_usd_per_mtok) == (500, 200_000)


async def test_tokens_are_counted_without_a_model_call(gateway: Gateway) -> None:
    message = generation(text="hello world").messages
    request = gateway_pb2.CountTokensRequest(model=MODEL, messages=message)
    response = await gateway.native.count_tokens(request, gateway.call())
    assert (response.input_tokens, response.exact, response.vocabulary) == (2 + 4 + 3, True, "o200k_base")
    assert not gateway.router.prompts


async def test_vectors_pass_as_they_are(gateway: Gateway) -> None:
    response = await gateway.native.embed(gateway_pb2.EmbedRequest(texts=["abc"]), gateway.call())
    assert response.dimension == 2
    assert len(response.vectors) == 8
