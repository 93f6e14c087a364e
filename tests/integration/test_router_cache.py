"""The answer cache: a real Redis, a real PostgreSQL with pgvector, MiniLM, and the provider double behind."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import pytest_asyncio

from quartet.common.v1 import message_pb2 as message
from quartet.common.v1.decision_pb2 import CacheOutcome
from quartet.router.v1 import router_pb2 as pb
from services.kit.call import Call
from services.kit.errors import QuartetError
from services.kit.testing import client_of
from services.router.settings import Settings
from services.router.wiring import build
from tests.databases import read_rows
from tests.doubles.provider import Fault, ProviderDouble, Reply, ToolCall
from tests.unit.router.test_paraphrase import ENTITIES, NUMBERS, POLARITY

SERVICE = "quartet.router.v1.RouterService"
CONFIG = Path(__file__).parents[2] / "config"


@pytest_asyncio.fixture
async def router(
    double: ProviderDouble, redis_url: str, database_url: str, tmp_path: Path
) -> AsyncIterator[Any]:
    """A client of a router whose route `simple_faq` caches everything, other wordings included."""
    folder = copytree(CONFIG, tmp_path / "config")
    routes = (folder / "routes.yaml").read_text()
    first = "  - name: simple_faq\n"
    assert first in routes
    (folder / "routes.yaml").write_text(
        routes.replace(first, f"{first}    cache: {{ttl_s: 600, semantic: 0.5}}\n")
    )
    settings = Settings(
        openai_base_url=double.openai_url,
        anthropic_base_url=double.url,
        redis_url=redis_url,
        database_url=database_url,
        config_dir=folder,
        cache_timeout_s=5.0,
        max_retries=0,
    )
    async with build(settings) as (binding,), client_of("remote", SERVICE, binding.service) as client:
        yield client


def call(tenant: str = "acme", timeout_s: float = 20) -> Call:
    return Call.root(timeout_s=timeout_s, tenant=tenant, key_id="qk_0123456789ab")


def prompt(text: str = "Hello there", *, temperature: float | None = 0, **fields: Any) -> pb.Prompt:
    turn = message.Message(role=message.ROLE_USER, parts=[message.Part(text=text)])
    asked = pb.Prompt(messages=[turn], input_tokens=3, **fields)
    if not asked.HasField("target"):
        asked.target.model = "gpt-6-luna"
    if temperature is not None:
        asked.spec.temperature = temperature
    return asked


def faq(text: str) -> pb.Prompt:
    return prompt(text, temperature=None, target=pb.Target(route="simple_faq"))


async def answer(router: Any, asked: pb.Prompt, by: Call | None = None) -> tuple[str, str]:
    """The text, and what the cache said."""
    response = await router.generate(pb.GenerateRequest(prompt=asked), by or call())
    return response.completion.message.parts[0].text, outcome(response.decision.cache)


async def stream(router: Any, asked: pb.Prompt, by: Call | None = None) -> tuple[str, str]:
    request = pb.StreamGenerateRequest(prompt=asked)
    async with aclosing(router.stream_generate(request, by or call())) as events:
        heard = [event async for event in events]
    assert [event.WhichOneof("event") for event in heard].count("end") == 1
    assert heard[-1].HasField("end")
    return "".join(event.delta.text for event in heard), outcome(heard[0].decision.cache)


def outcome(cache: CacheOutcome.ValueType) -> str:
    return CacheOutcome.Name(cache).removeprefix("CACHE_OUTCOME_").lower()


async def test_the_same_request_is_answered_once_and_then_from_the_cache(
    router: Any, double: ProviderDouble
) -> None:
    first, missed = await answer(router, prompt())
    again = await router.generate(pb.GenerateRequest(prompt=prompt()), call())
    assert (missed, outcome(again.decision.cache)) == ("miss", "exact_hit")
    assert again.completion.message.parts[0].text == first
    assert again.completion.usage.cost_micro_usd == again.completion.usage.model_calls == 0
    assert again.completion.usage.output_tokens > 0
    assert double.calls() == 1


async def test_answers_pass_between_streams_and_whole_ones(router: Any, double: ProviderDouble) -> None:
    streamed, missed = await stream(router, prompt())
    assert (streamed, missed) == ((await answer(router, prompt()))[0], "miss")
    assert await stream(router, prompt()) == (streamed, "exact_hit")
    whole, _ = await answer(router, prompt("Another"))
    assert await stream(router, prompt("Another")) == (whole, "exact_hit")
    assert double.calls() == 2


async def test_fifty_identical_streams_at_once_make_one_call(router: Any, double: ProviderDouble) -> None:
    double.script(fault=Fault(delay_s=1.5, chunk_delay_s=0.01), times=None)
    streams = await asyncio.gather(*(stream(router, prompt()) for _ in range(50)))
    assert double.calls() == 1
    assert len({text for text, _ in streams}) == 1
    assert sorted({said for _, said in streams}) == ["coalesced", "miss"]
    assert [said for _, said in streams].count("miss") == 1
    assert (await stream(router, prompt()))[1] == "exact_hit"


async def test_one_of_those_who_share_may_leave(router: Any, double: ProviderDouble) -> None:
    double.script(fault=Fault(delay_s=1.0), times=None)
    leaver = asyncio.create_task(stream(router, prompt()))
    await double.wait_calls(1)
    stayers = [asyncio.create_task(stream(router, prompt())) for _ in range(3)]
    await asyncio.sleep(0.3)
    leaver.cancel()
    texts = {text for text, _ in await asyncio.gather(*stayers)}
    assert len(texts) == 1
    assert double.calls() == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda asked: asked.spec.ClearField("temperature"),
        lambda asked: setattr(asked.spec, "temperature", 0.7),
        lambda asked: setattr(asked, "cache_control", "no-store"),
    ],
    ids=["no temperature", "a warm one", "no-store"],
)
async def test_what_may_not_be_kept_is_asked_each_time(
    router: Any, double: ProviderDouble, change: Any
) -> None:
    for _ in range(2):
        asked = prompt()
        change(asked)
        assert (await answer(router, asked))[1] == "bypass"
    assert double.calls() == 2


async def test_no_cache_asks_anew_and_keeps_the_newer_answer(router: Any, double: ProviderDouble) -> None:
    double.script(reply=Reply(text="old"))
    double.script(reply=Reply(text="new"))
    assert await answer(router, prompt()) == ("old", "miss")
    assert await answer(router, prompt(cache_control="no-cache")) == ("new", "miss")
    assert await answer(router, prompt()) == ("new", "exact_hit")


@pytest.mark.parametrize(
    "reply",
    [Reply(text="cut o", finish_reason="length"), Reply(tool_calls=(ToolCall(name="f", arguments="{}"),))],
    ids=["truncated", "tool call"],
)
async def test_a_truncated_or_tool_calling_answer_is_not_kept(
    router: Any, double: ProviderDouble, reply: Reply
) -> None:
    double.script(reply=reply, times=None)
    for _ in range(2):
        asked = prompt()
        asked.spec.tools.add(name="f")
        response = await router.generate(pb.GenerateRequest(prompt=asked), call())
        assert outcome(response.decision.cache) == "miss"
    assert double.calls() == 2


async def test_a_failure_is_not_kept(router: Any, double: ProviderDouble) -> None:
    double.script(fault=Fault(status=500))
    with pytest.raises(QuartetError):
        await answer(router, prompt())
    assert (await answer(router, prompt()))[1] == "miss"


async def test_two_tenants_share_nothing(router: Any, double: ProviderDouble) -> None:
    double.script(fault=Fault(delay_s=0.1), times=None)
    at_once = await asyncio.gather(
        *(answer(router, prompt(), call(tenant)) for tenant in ("acme", "other")),
        *(stream(router, prompt(), call(tenant)) for tenant in ("acme", "other")),
    )
    assert {said for _, said in at_once} == {"miss"}
    for tenant in ("third", "fourth"):
        assert (await answer(router, faq("What is a quark?"), call(tenant)))[1] == "miss"
    assert double.calls() == 6


async def test_another_model_temperature_or_system_prompt_is_another_answer(
    router: Any, double: ProviderDouble
) -> None:
    await answer(router, prompt())
    others = [prompt(target=pb.Target(model="claude-haiku-5-5")), prompt(), prompt()]
    others[1].spec.max_output_tokens = 17
    system = message.Message(role=message.ROLE_SYSTEM, parts=[message.Part(text="Be brief.")])
    others[2].messages.insert(0, system)
    for other in others:
        assert (await answer(router, other))[1] == "miss"
    assert double.calls() == 4


async def test_another_wording_of_a_question_gets_the_same_answer(
    router: Any, double: ProviderDouble
) -> None:
    first, _ = await answer(router, faq("How do I reset my password?"))
    assert await answer(router, faq("how can I reset my password")) == (first, "semantic_hit")
    assert await stream(router, faq("I want to know how to reset my password")) == (first, "semantic_hit")
    assert double.calls() == 1


async def test_close_questions_that_differ_in_polarity_number_or_name_never_hit(
    router: Any, double: ProviderDouble
) -> None:
    pairs = POLARITY + NUMBERS + ENTITIES
    for number, (one, other) in enumerate(pairs):
        # A tenant of its own, so that each pair has the cache for itself.
        tenant = f"tenant-{number}"
        assert (await answer(router, faq(one), call(tenant)))[1] == "miss"
        assert (await answer(router, faq(other), call(tenant)))[1] == "miss", (one, other)
    assert double.calls() == 2 * len(pairs)


async def test_hits_cost_nothing_and_their_saving_is_in_the_ledger(router: Any, database_url: str) -> None:
    for _ in range(2):
        await answer(router, faq("What is a quark?"))
    async with asyncio.timeout(10):
        while True:
            rows = await read_rows(database_url, "select * from router.ledger order by time")
            if len(rows) == 2:
                break
            await asyncio.sleep(0.1)
    paid, free = rows
    assert (paid["cache"], free["cache"]) == ("miss", "exact_hit")
    assert (free["cost_micro_usd"], free["input_tokens"]) == (0, 0)
    assert free["baseline_micro_usd"] == paid["baseline_micro_usd"] > paid["cost_micro_usd"]


async def test_a_cache_that_is_away_changes_no_answer(double: ProviderDouble) -> None:
    settings = Settings(openai_base_url=double.openai_url, redis_url="redis://127.0.0.1:1/0")
    async with build(settings) as (binding,), client_of("remote", SERVICE, binding.service) as router:
        for _ in range(2):
            assert (await answer(router, prompt()))[1] == "miss"
    assert double.calls() == 2
