"""A race of two calls: who is heard, and what becomes of the other."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace

import pytest

from quartet.common.v1.generation_pb2 import Completion, Delta, Usage
from quartet.common.v1.message_pb2 import ROLE_ASSISTANT, Message, Part
from quartet.router.v1.router_pb2 import Prompt
from services.kit.call import Call
from services.kit.errors import Unavailable
from services.router.domain import failures
from services.router.domain.adaptation import ModelRequest
from services.router.domain.answering import Answering
from services.router.domain.fleet import Fleet
from services.router.domain.latency import Hedge, Latency
from services.router.domain.plan import Plan
from services.router.domain.retrying import Retrying, RetryPolicy
from services.router.ports import Accepted, ProviderEvent
from tests.unit.router.conftest import Ask, Decide


class Paced:
    """A provider that answers after a while, or fails then."""

    def __init__(self, name: str, delay_s: float, *, fails: bool = False) -> None:
        self.name = name
        self._delay_s = delay_s
        self._fails = fails
        self.ended: list[str] = []
        self.asked = asyncio.Event()

    async def generate(self, request: ModelRequest, call: Call) -> Completion:
        await self._work(request)
        message = Message(role=ROLE_ASSISTANT, parts=[Part(text=self.name)])
        return Completion(message=message, usage=Usage(output_tokens=1))

    async def stream(self, request: ModelRequest, call: Call) -> AsyncGenerator[ProviderEvent]:
        yield Accepted()
        await self._work(request)
        yield Delta(text=self.name)
        yield Completion(usage=Usage(output_tokens=1))

    async def _work(self, request: ModelRequest) -> None:
        self.asked.set()
        try:
            await asyncio.sleep(self._delay_s)
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise
        if self._fails:
            self.ended.append("failed")
            raise failures.unreachable(self.name, request.model.id, "gone")
        self.ended.append("answered")


Make = Callable[[Paced, Paced], tuple[Answering, Plan]]


@pytest.fixture
def make(decider: Decide, ask: Ask) -> Make:
    """Answering by two providers, the second asked beside the first after 50 ms."""

    def made(first: Paced, second: Paced) -> tuple[Answering, Plan]:
        plan = decider().decide(ask())
        plan = replace(plan, models=plan.models[:2], route=replace(plan.route, hedge=Hedge(after_s=0.05)))
        fleet = Fleet(plan.models, {"openai", "anthropic"})
        retrying = Retrying(fleet, RetryPolicy(max_retries=0))
        return Answering({"openai": first, "anthropic": second}, retrying), plan

    return made


async def texts(answering: Answering, plan: Plan, prompt: Prompt, *, streamed: bool) -> tuple[str, str, int]:
    """What was said, by whom in the decision's opinion, and the calls counted."""
    call = Call.root(timeout_s=5)
    if not streamed:
        decision, completion = await answering.answer(prompt, plan, call)
        return completion.message.parts[0].text, decision.model, completion.usage.model_calls
    said, model, calls = "", "", 0
    async for event in answering.stream(prompt, plan, call):
        if isinstance(event, Delta):
            said += event.text
        elif isinstance(event, Completion):
            calls = event.usage.model_calls
        else:
            model = event.model
    return said, model, calls


@pytest.mark.parametrize("streamed", [False, True])
async def test_the_second_is_heard_where_the_first_is_slow(make: Make, ask: Ask, streamed: bool) -> None:
    first, second = Paced("openai", 30), Paced("anthropic", 0)
    answering, plan = make(first, second)
    said = await texts(answering, plan, ask(), streamed=streamed)
    assert said == ("anthropic", "claude-haiku-5-5", 2)
    assert (first.ended, second.ended) == (["cancelled"], ["answered"])


@pytest.mark.parametrize("streamed", [False, True])
async def test_the_first_is_still_heard_where_the_second_is_slower(
    make: Make, ask: Ask, streamed: bool
) -> None:
    first, second = Paced("openai", 0.4), Paced("anthropic", 30)
    answering, plan = make(first, second)
    assert (await texts(answering, plan, ask(), streamed=streamed))[:2] == ("openai", "gpt-6-luna")
    assert (first.ended, second.ended) == (["answered"], ["cancelled"])


@pytest.mark.parametrize("streamed", [False, True])
async def test_nobody_else_is_asked_where_the_first_is_fast(make: Make, ask: Ask, streamed: bool) -> None:
    first, second = Paced("openai", 0), Paced("anthropic", 0)
    answering, plan = make(first, second)
    assert await texts(answering, plan, ask(), streamed=streamed) == ("openai", "gpt-6-luna", 1)
    assert second.ended == []


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_first_that_fails_late_leaves_the_word_to_the_second(
    make: Make, ask: Ask, streamed: bool
) -> None:
    first, second = Paced("openai", 0.4, fails=True), Paced("anthropic", 0.6)
    answering, plan = make(first, second)
    assert (await texts(answering, plan, ask(), streamed=streamed))[0] == "anthropic"
    assert (first.ended, second.ended) == (["failed"], ["answered"])


@pytest.mark.parametrize("streamed", [False, True])
async def test_where_both_fail_it_is_told_of_both(make: Make, ask: Ask, streamed: bool) -> None:
    first, second = Paced("openai", 0.4, fails=True), Paced("anthropic", 0.6, fails=True)
    answering, plan = make(first, second)
    with pytest.raises(Unavailable):
        await texts(answering, plan, ask(), streamed=streamed)
    assert (first.ended, second.ended) == (["failed"], ["failed"])


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_budget_of_one_call_has_no_room_for_a_race(make: Make, ask: Ask, streamed: bool) -> None:
    first, second = Paced("openai", 0.2), Paced("anthropic", 0)
    answering, plan = make(first, second)
    prompt = ask()
    prompt.budget.max_model_calls = 1
    assert await texts(answering, plan, prompt, streamed=streamed) == ("openai", "gpt-6-luna", 1)
    assert second.ended == []


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_caller_that_leaves_ends_both(make: Make, ask: Ask, streamed: bool) -> None:
    first, second = Paced("openai", 30), Paced("anthropic", 30)
    answering, plan = make(first, second)
    task = asyncio.create_task(texts(answering, plan, ask(), streamed=streamed))
    await second.asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (first.ended, second.ended) == (["cancelled"], ["cancelled"])


async def test_the_pause_follows_what_is_known(ask: Ask) -> None:
    latency = Latency(lambda: 0.0)
    hedge = Hedge(after_s=9, quantile=0.95)
    assert hedge.delay_s(latency) == 9
    for number in range(40):
        latency.note(number / 10)
    assert hedge.delay_s(latency) == pytest.approx(3.8)
    assert Hedge(after_s=9).delay_s(latency) == 9
