"""Answers of a cascade in the cache: a real Redis and PostgreSQL, and the provider double behind."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio

from quartet.common.v1 import message_pb2
from quartet.router.v1 import router_pb2 as pb
from services.kit.call import Call
from services.router.settings import Settings
from services.router.wiring import build
from tests.cascades import CHEAP, STRONG, Heard, configure, hear
from tests.databases import read_rows
from tests.doubles.provider import Fault, ProviderDouble, Reply

QUESTION = "What is the capital of France?"
DOUBT = Reply(text="I'm not sure.")
CASCADES: dict[str, dict[str, Any]] = {
    "plain": {},
    "judged": {"check": ["form", "judge"]},
    "strict": {"phrases": ["you said"]},
}

pytestmark = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


@pytest_asyncio.fixture(scope="module")
async def routers(
    provider: ProviderDouble,
    redis_server: str,
    module_database: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[dict[str, Any]]:
    """Routers with different checks, which share their stores; each test is another tenant."""
    async with AsyncExitStack() as stack:
        services = {}
        for name, cascade in CASCADES.items():
            settings = Settings(
                config_dir=configure(tmp_path_factory.mktemp(name), **cascade),
                openai_base_url=provider.openai_url,
                redis_url=redis_server,
                database_url=module_database,
                cache_timeout_s=5.0,
                max_retries=0,
                breaker_failures=1000,
                breaker_min_calls=100_000,
            )
            (binding,) = await stack.enter_async_context(build(settings))
            services[name] = binding.service
        yield services


async def ask(
    service: Any, tenant: str, *, streamed: bool, model: str = "", cache_control: str = ""
) -> Heard:
    turn = message_pb2.Message(role=message_pb2.ROLE_USER, parts=[message_pb2.Part(text=QUESTION)])
    target = pb.Target(model=model) if model else pb.Target(route="complex")
    prompt = pb.Prompt(messages=[turn], target=target, cache_control=cache_control)
    prompt.spec.temperature = 0
    call = Call.root(timeout_s=20, tenant=tenant, key_id="qk_0123456789ab")
    return await hear(service, prompt, call, streamed=streamed)


def is_judging(request: Any) -> bool:
    return "<answer>" in str(request.body)


async def test_an_escalated_answer_is_kept_and_costs_no_call_again(
    routers: dict[str, Any], reset_provider: ProviderDouble, tenant: str, streamed: bool
) -> None:
    reset_provider.script(match=CHEAP, reply=DOUBT, times=None)
    service = routers["plain"]
    alone = await ask(service, tenant, streamed=streamed, model=STRONG, cache_control="no-store")
    paid = await ask(service, tenant, streamed=streamed)
    hits = [await ask(service, tenant, streamed=again) for again in (False, True)]
    assert (paid.cache, paid.answered) == ("miss", STRONG)
    assert paid.usage.input_tokens > alone.usage.input_tokens
    for hit in hits:
        assert (hit.cache, hit.decided, hit.answered, hit.text) == ("exact_hit", STRONG, STRONG, paid.text)
        assert hit.usage.cost_micro_usd == hit.usage.model_calls == 0
        # The answer's own: the draft that was thrown away is no part of it.
        assert hit.usage.input_tokens == alone.usage.input_tokens
    assert reset_provider.calls() == 3


async def test_a_draft_that_passed_is_kept_without_what_its_judge_used(
    routers: dict[str, Any], reset_provider: ProviderDouble, tenant: str, streamed: bool
) -> None:
    reset_provider.script(match=is_judging, reply=Reply(text="Yes"), times=None)
    service = routers["judged"]
    alone = await ask(service, tenant, streamed=streamed, model=CHEAP, cache_control="no-store")
    paid = await ask(service, tenant, streamed=streamed)
    hit = await ask(service, tenant, streamed=streamed)
    assert (paid.cache, paid.answered, paid.usage.model_calls) == ("miss", CHEAP, 2)
    assert paid.usage.cost_micro_usd > alone.usage.cost_micro_usd
    assert (hit.cache, hit.decided, hit.text) == ("exact_hit", CHEAP, paid.text)
    assert hit.usage.input_tokens == alone.usage.input_tokens
    assert reset_provider.calls() == 3


async def test_savings_count_the_answer_alone(
    routers: dict[str, Any], reset_provider: ProviderDouble, module_database: str, tenant: str, streamed: bool
) -> None:
    reset_provider.script(match=CHEAP, reply=DOUBT, times=None)
    for _ in range(2):
        await ask(routers["plain"], tenant, streamed=streamed)
    async with asyncio.timeout(10):
        while True:
            rows = await read_rows(module_database, "select * from router.ledger order by time")
            rows = [row for row in rows if row["tenant"] == tenant]
            if len(rows) == 3:
                break
            await asyncio.sleep(0.05)
    draft, strong, hit = rows
    assert [(row["model"], row["cache"]) for row in rows] == [
        (CHEAP, "miss"),
        (STRONG, "miss"),
        (STRONG, "exact_hit"),
    ]
    assert (hit["cost_micro_usd"], hit["input_tokens"], hit["output_tokens"]) == (0, 0, 0)
    assert hit["baseline_micro_usd"] == draft["baseline_micro_usd"] + strong["baseline_micro_usd"] > 0


@pytest.mark.parametrize(
    ("name", "model", "reply", "fault"),
    [
        ("plain", CHEAP, None, Fault(status=500)),
        ("plain", STRONG, None, Fault(status=500)),
        ("plain", STRONG, Reply(text="Par", finish_reason="length"), None),
        ("judged", is_judging, None, Fault(status=500)),
    ],
    ids=["no draft", "doubtful", "truncated", "unjudged"],
)
async def test_what_a_failure_had_a_part_in_is_not_kept(
    routers: dict[str, Any],
    reset_provider: ProviderDouble,
    tenant: str,
    streamed: bool,
    name: str,
    model: Any,
    reply: Reply | None,
    fault: Fault | None,
) -> None:
    reset_provider.script(match=model, reply=reply, fault=fault, times=None)
    if model == STRONG:
        reset_provider.script(match=CHEAP, reply=DOUBT, times=None)
    outcomes = [(await ask(routers[name], tenant, streamed=streamed)).cache for _ in range(2)]
    assert outcomes == ["miss", "miss"]
    assert reset_provider.calls() == 4


async def test_an_answer_is_given_under_its_own_checks_alone(
    routers: dict[str, Any], reset_provider: ProviderDouble, tenant: str, streamed: bool
) -> None:
    reset_provider.script(match=is_judging, reply=Reply(text="No"), times=None)
    outcomes = []
    for name in ("plain", "judged", "strict", "plain"):
        heard = await ask(routers[name], tenant, streamed=streamed)
        outcomes.append((heard.answered, heard.cache))
    assert outcomes == [(CHEAP, "miss"), (STRONG, "miss"), (STRONG, "miss"), (CHEAP, "exact_hit")]


async def test_who_shares_an_escalated_answer_pays_for_none_of_its_calls(
    routers: dict[str, Any], reset_provider: ProviderDouble, tenant: str, streamed: bool
) -> None:
    reset_provider.script(match=CHEAP, reply=DOUBT, fault=Fault(delay_s=0.5), times=None)
    service = routers["plain"]
    heard = await asyncio.gather(*(ask(service, tenant, streamed=streamed) for _ in range(3)))
    assert sorted(one.cache for one in heard) == ["coalesced", "coalesced", "miss"]
    assert {one.text for one in heard} == {f"You said: {QUESTION}"}
    paid = next(one for one in heard if one.cache == "miss")
    shared = [one.usage for one in heard if one.cache != "miss"]
    assert (paid.usage.model_calls, reset_provider.calls()) == (2, 2)
    for usage in shared:
        assert usage.cost_micro_usd == usage.model_calls == 0
        assert usage.input_tokens < paid.usage.input_tokens
