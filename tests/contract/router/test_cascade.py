"""A route whose cheaper models answer first, and whose strong ones are asked where the answer will not do."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from quartet.common.v1.generation_pb2 import ResponseFormat
from services.kit.call import Call
from services.kit.errors import QuartetError
from services.router.settings import Settings
from services.router.wiring import build
from tests.cascades import CHEAP, STRONG, configure, hear
from tests.contract.router.conftest import Ask
from tests.doubles.provider import Fault, ProviderDouble, Reply

QUESTION = "What is the capital of France?"


async def serve(folder: Path, double: ProviderDouble) -> AsyncIterator[Any]:
    settings = Settings(
        config_dir=folder,
        openai_base_url=double.openai_url,
        anthropic_base_url=double.url,
        max_retries=0,
        breaker_failures=1000,
    )
    async with build(settings) as (binding,):
        yield binding.service


@pytest_asyncio.fixture(scope="module")
async def service(session_double: ProviderDouble, tmp_path_factory: Any) -> AsyncIterator[Any]:
    async for service in serve(configure(tmp_path_factory.mktemp("config")), session_double):
        yield service


@pytest_asyncio.fixture
async def judged_service(double: ProviderDouble, tmp_path: Path) -> AsyncIterator[Any]:
    """Here a judge is asked, too."""
    async for service in serve(configure(tmp_path, check=["form", "judge"]), double):
        yield service


pytestmark = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


async def test_a_cheap_answer_that_will_do_is_given(
    service: Any, double: ProviderDouble, call: Call, ask: Ask, streamed: bool
) -> None:
    heard = await hear(service, ask(QUESTION, route="complex"), call, streamed=streamed)
    assert (heard.decided, heard.answered) == (CHEAP, CHEAP)
    assert heard.text == f"You said: {QUESTION}"
    assert (double.calls(), heard.usage.model_calls, heard.policy) == (1, 1, "cascade")


@pytest.mark.parametrize(
    "reply",
    [Reply(text="I'm not sure."), Reply(text="Par", finish_reason="length"), Reply(text="")],
    ids=["hedging", "cut", "empty"],
)
async def test_one_that_will_not_do_is_escalated_and_both_are_paid_for(
    service: Any, double: ProviderDouble, call: Call, ask: Ask, streamed: bool, reply: Reply
) -> None:
    double.script(match=CHEAP, reply=reply)
    alone = await hear(service, ask(QUESTION, model=STRONG), call, streamed=streamed)
    heard = await hear(service, ask(QUESTION, route="complex"), call, streamed=streamed)
    assert (heard.decided, heard.answered) == (STRONG, STRONG)
    assert heard.text == f"You said: {QUESTION}"
    assert "it failed: it" in heard.objections[CHEAP]
    assert heard.usage.model_calls == 2
    assert heard.usage.cost_micro_usd > alone.usage.cost_micro_usd
    assert heard.usage.input_tokens > alone.usage.input_tokens


async def test_json_that_does_not_fit_is_escalated(
    service: Any, double: ProviderDouble, call: Call, ask: Ask, streamed: bool
) -> None:
    double.script(match=CHEAP, reply=Reply(text='{"city": 7}'))
    double.script(match=STRONG, reply=Reply(text='{"city": "Paris"}'))
    prompt = ask(QUESTION, route="complex")
    prompt.spec.response_format.kind = ResponseFormat.KIND_JSON_SCHEMA
    prompt.spec.response_format.name = "city"
    prompt.spec.response_format.schema_json = (
        '{"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}}'
    )
    heard = await hear(service, prompt, call, streamed=streamed)
    assert heard.text == '{"city": "Paris"}'
    assert "/city is no string" in heard.objections[CHEAP]


async def test_where_the_cheap_model_fails_the_strong_one_answers(
    service: Any, double: ProviderDouble, call: Call, ask: Ask, streamed: bool
) -> None:
    double.script(match=CHEAP, fault=Fault(cut_after_chunks=2), times=None)
    heard = await hear(service, ask(QUESTION, route="complex"), call, streamed=streamed)
    assert (heard.answered, heard.text) == (STRONG, f"You said: {QUESTION}")


async def test_where_the_strong_model_fails_a_doubtful_answer_is_better_than_none(
    service: Any, double: ProviderDouble, call: Call, ask: Ask, streamed: bool
) -> None:
    double.script(match=CHEAP, reply=Reply(text="I'm not sure: Paris?"), times=None)
    double.script(match=STRONG, fault=Fault(status=500), times=None)
    heard = await hear(service, ask(QUESTION, route="complex"), call, streamed=streamed)
    assert (heard.answered, heard.text) == (CHEAP, "I'm not sure: Paris?")
    assert "did not pass its check" in heard.warnings[-1]


async def test_a_budget_without_room_for_the_strong_model_keeps_the_cheap_answer(
    service: Any, double: ProviderDouble, call: Call, ask: Ask, streamed: bool
) -> None:
    double.script(match=CHEAP, reply=Reply(text="I'm not sure: Paris?"), times=None)
    prompt = ask(QUESTION, route="complex")
    prompt.budget.max_model_calls = 1
    heard = await hear(service, prompt, call, streamed=streamed)
    assert heard.answered == CHEAP
    assert double.calls() == 1


async def test_what_no_model_would_take_is_refused_at_once(
    service: Any, double: ProviderDouble, call: Call, ask: Ask, streamed: bool
) -> None:
    double.script(fault=Fault(status=400), times=None)
    with pytest.raises(QuartetError) as caught:
        await hear(service, ask(QUESTION, route="complex"), call, streamed=streamed)
    assert (caught.value.reason, double.calls()) == ("PROVIDER_REFUSED", 1)


@pytest.mark.parametrize(("verdict", "model"), [("Yes.", CHEAP), ("No", STRONG)])
async def test_a_judge_may_find_an_answer_wrong(
    judged_service: Any,
    double: ProviderDouble,
    call: Call,
    ask: Ask,
    streamed: bool,
    verdict: str,
    model: str,
) -> None:
    double.script(
        match=lambda request: "<answer>" in str(request.body), reply=Reply(text=verdict), times=None
    )
    heard = await hear(judged_service, ask(QUESTION, route="complex"), call, streamed=streamed)
    assert heard.answered == model
    judging = next(request for request in double.requests if "<answer>" in str(request.body))
    assert judging.model == CHEAP
    assert judging.body["max_completion_tokens"] == 16
    assert heard.usage.model_calls == double.calls() == (2 if model == CHEAP else 3)
