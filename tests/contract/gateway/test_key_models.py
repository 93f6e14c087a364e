"""Keys whose scopes name models: what the services behind the gateway are told of them."""

import pytest

from quartet.common.v1 import decision_pb2
from quartet.gateway.v1 import gateway_pb2
from services.gateway.domain.keys import make_key
from services.kit.errors import AlreadyExists, PermissionDenied
from tests.contract.gateway.conftest import Gateway
from tests.contract.gateway.neighbours import MODEL
from tests.contract.gateway.test_native import ask, events_of, generation

OTHER = "claude-haiku-5-5"


def hold(gateway: Gateway, *scopes: str) -> None:
    """The gateway's client has a key with these scopes from here on."""
    key, gateway.secret = make_key(tenant="acme", scopes=frozenset(scopes))
    gateway.keys.keys[key.id] = key


async def test_auto_and_routes_are_decided_among_the_models_of_the_key(gateway: Gateway) -> None:
    hold(gateway, f"model:{MODEL}", f"model:{OTHER}")
    for name in ("auto", "route/technical", MODEL):
        await gateway.native.generate(ask(name), gateway.call())
        await events_of(gateway, name)
    explained = gateway_pb2.ExplainRouteRequest(generation=generation())
    await gateway.native.explain_route(explained, gateway.call())
    assert [call.models for call in gateway.router.calls] == [(OTHER, MODEL)] * 7
    # It names no collection, so that no rule may hand it one.
    assert all(prompt.models_only for prompt in gateway.router.prompts)
    for name in ("gpt-4o", "rag/docs", "agent"):
        with pytest.raises(PermissionDenied):
            await gateway.native.generate(ask(name), gateway.call())


async def test_a_key_of_routes_and_models_has_these_routes_with_these_models(gateway: Gateway) -> None:
    hold(gateway, "route:auto", f"model:{MODEL}")
    await gateway.native.generate(ask("auto"), gateway.call())
    assert gateway.router.calls[0].models == (MODEL,)
    assert not gateway.router.prompts[0].models_only
    with pytest.raises(PermissionDenied):
        await gateway.native.generate(ask("route/technical"), gateway.call())


@pytest.mark.parametrize("scope", ["*", "rpc:Generate", "route:auto"])
async def test_of_other_keys_nothing_is_sent(gateway: Gateway, scope: str) -> None:
    hold(gateway, scope)
    await gateway.native.generate(ask("auto"), gateway.call())
    (call,) = gateway.router.calls
    assert call.models is None
    assert "x-quartet-models" not in call.metadata


@pytest.mark.parametrize(("scope", "models"), [("*", None), (f"model:{MODEL}", (MODEL,))])
async def test_what_a_client_says_of_models_is_not_believed(
    gateway: Gateway, scope: str, models: tuple[str, ...] | None
) -> None:
    hold(gateway, scope)
    call = gateway.call(x_quartet_models="gpt-6.1-sol")
    call.models = ("gpt-6.1-sol",)
    await gateway.native.generate(ask("auto"), call)
    await gateway.chat(b'{"model": "auto", "messages": [{"role": "user", "content": "Hi"}]}', call)
    assert [asked.models for asked in gateway.router.calls] == [models] * 2


async def test_pipelines_and_runs_know_the_models_too(gateway: Gateway) -> None:
    hold(gateway, "route:auto", "collection:docs", f"model:{MODEL}")
    await gateway.native.generate(ask("rag/docs"), gateway.call())
    await gateway.native.generate(ask("agent/docs"), gateway.call())
    gateway.router.decision = decision_pb2.Decision(
        handler=decision_pb2.Handler(pipeline=decision_pb2.PipelineTarget(name="rag_answer"))
    )
    await gateway.native.generate(ask("auto"), gateway.call())
    calls = [*gateway.pipeline.calls, *gateway.orchestrator.calls]
    assert [call.models for call in calls] == [(MODEL,)] * 3


async def test_a_key_may_name_as_many_models_as_it_may_have_scopes(gateway: Gateway) -> None:
    names = [f"{number:03}" + "m" * 197 for number in range(256)]
    hold(gateway, *(f"model:{name}" for name in names))
    await gateway.native.generate(ask("auto"), gateway.call())
    assert gateway.router.calls[0].models == tuple(names)


async def test_an_answer_is_replayed_to_no_key_of_other_models(gateway: Gateway) -> None:
    await gateway.native.generate(ask("auto"), gateway.call(idempotency_key="k"))
    hold(gateway, f"model:{OTHER}")
    with pytest.raises(AlreadyExists):
        await gateway.native.generate(ask("auto"), gateway.call(idempotency_key="k"))
    await gateway.native.generate(ask("auto"), gateway.call(idempotency_key="mine"))
    hold(gateway, f"model:{OTHER}")
    again = gateway.call(idempotency_key="mine")
    await gateway.native.generate(ask("auto"), again)
    assert again.response_headers["x-quartet-replayed"]
    assert len(gateway.router.prompts) == 2


async def test_a_key_of_models_lists_the_routes_with_them(gateway: Gateway) -> None:
    hold(gateway, f"model:{MODEL}")
    listed = await gateway.native.list_models(gateway_pb2.ListModelsRequest(), gateway.call())
    assert {model.kind for model in listed.models} == {"auto", "route", "model"}
    assert [model.id for model in listed.models if model.kind == "model"] == [MODEL]
