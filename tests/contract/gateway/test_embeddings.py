"""Texts to embed go in by the same doors as prompts: headers, accounts, idempotency keys."""

import json

import pytest
from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]

from quartet.common.v1.decision_pb2 import CACHE_OUTCOME_MISS
from quartet.gateway.v1 import gateway_pb2
from services.kit.call import Call
from services.kit.errors import AlreadyExists
from tests.contract.gateway.conftest import Gateway
from tests.contract.gateway.test_openai import STATUS
from tests.contract.gateway.test_replay import REPLAYED


def texts(*said: str, **fields: object) -> gateway_pb2.EmbedRequest:
    return gateway_pb2.EmbedRequest(texts=said, **fields)  # type: ignore[arg-type]


async def post(gateway: Gateway, call: Call, **body: object) -> HttpBody:
    sent = json.dumps({"model": "local/minilm", "input": "abc"} | body).encode()
    (answer,) = await gateway.post("OpenAIService", "create_embedding", sent, call)
    return answer


async def test_the_same_key_and_texts_are_embedded_once(gateway: Gateway) -> None:
    calls = [gateway.call(idempotency_key="k") for _ in range(2)]
    first, second = [await gateway.native.embed(texts("abc"), call) for call in calls]
    assert first == second
    assert first.usage.cost_micro_usd == 42
    assert len(gateway.router.embeddings) == 1
    assert REPLAYED not in calls[0].response_headers
    assert calls[1].response_headers[REPLAYED] == "true"
    for name in ("x-quartet-model", "x-quartet-cache"):
        assert calls[0].response_headers[name] == calls[1].response_headers[name]


async def test_an_answer_over_http_is_replayed_as_it_was(gateway: Gateway) -> None:
    calls = [gateway.call(idempotency_key="k") for _ in range(2)]
    first, second = [await post(gateway, call) for call in calls]
    assert first.data == second.data
    assert calls[1].response_headers[REPLAYED] == "true"
    assert len(gateway.router.embeddings) == 1


@pytest.mark.parametrize("other", [texts("else"), texts("abc", dimensions=1), texts("abc", "abc")])
async def test_the_same_key_for_other_texts_is_a_conflict(
    gateway: Gateway, other: gateway_pb2.EmbedRequest
) -> None:
    await gateway.native.embed(texts("abc"), gateway.call(idempotency_key="k"))
    with pytest.raises(AlreadyExists) as caught:
        await gateway.native.embed(other, gateway.call(idempotency_key="k"))
    assert caught.value.reason == "IDEMPOTENCY_KEY_REUSED"
    assert len(gateway.router.embeddings) == 1


async def test_a_conflict_over_http_is_one_in_openais_shape(gateway: Gateway) -> None:
    await post(gateway, gateway.call(idempotency_key="k"))
    call = gateway.call(idempotency_key="k")
    body = json.loads((await post(gateway, call, input="else")).data)
    assert body["error"]["code"] == "idempotency_key_reused"
    assert call.response_headers[STATUS] == "409"


async def test_without_a_key_texts_are_embedded_each_time(gateway: Gateway) -> None:
    for _ in range(2):
        await gateway.native.embed(texts("abc"), gateway.call())
    assert len(gateway.router.embeddings) == 2


async def test_headers_shape_the_request_and_its_answer(gateway: Gateway) -> None:
    call = gateway.call(cache_control="no-store", x_quartet_budget_micro_usd="70", x_quartet_timeout_ms="900")
    response = await gateway.native.embed(texts("abc"), call)
    (asked,) = gateway.router.embeddings
    assert asked.cache_control == "no-store"
    assert asked.budget.max_cost_micro_usd == 70
    assert gateway.router.calls[-1].remaining_s() < 0.9
    assert call.response_headers["x-quartet-model"] == "local/minilm"
    assert call.response_headers["x-quartet-cache"] == "miss"
    assert (response.cache, response.cached_texts) == (CACHE_OUTCOME_MISS, 1)


async def test_what_the_body_says_of_the_budget_stands(gateway: Gateway) -> None:
    request = texts("abc", budget={"max_cost_micro_usd": 5, "account_id": "anothers"})
    await gateway.native.embed(request, gateway.call(x_quartet_budget_micro_usd="70"))
    (asked,) = gateway.router.embeddings
    assert asked.budget.max_cost_micro_usd == 5
    assert asked.budget.account_id != "anothers"


async def test_openais_body_tells_what_the_cache_gave(gateway: Gateway) -> None:
    usage = json.loads((await post(gateway, gateway.call())).data)["usage"]
    assert usage["quartet"]["cache"] == "miss"
    assert usage["quartet"]["cached_texts"] == 1
