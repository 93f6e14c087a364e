"""Every way in which a provider fails, whole or streamed, in both dialects: it ends as declared and in time.

Afterwards the breaker is open where it should be, and the model answers again once it has cooled.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from quartet.router.v1 import router_pb2 as pb
from services.kit.call import Call
from services.kit.errors import QuartetError
from services.router.settings import Settings
from services.router.wiring import build
from tests.contract.router.conftest import Ask
from tests.doubles.provider import Fault, ProviderDouble, Reply

QUESTION = "What is the capital of France?"
MODELS = ("gpt-6-luna", "claude-haiku-5-5")
SILENCE_S = 0.5
COOLDOWN_S = 0.6
DEADLINE_S = 10.0
HURRY_S = 1.2
"""The deadline of those that are to run out of time."""
TEXT = "one two three four"


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a request ends: the reason, the calls made for it, and the words that came before."""

    reason: str
    calls: int = 2
    words: str = ""
    deadline_s: float = DEADLINE_S


INTERRUPTED = End(reason="PROVIDER_INTERRUPTED")
BROKEN_OFF = End(reason="PROVIDER_INTERRUPTED", calls=1, words="one two ")
UNAVAILABLE = End(reason="PROVIDER_UNAVAILABLE")
BUSY = End(reason="PROVIDER_RATE_LIMITED")
OUT_OF_TIME = End(reason="PROVIDER_TIMEOUT", calls=1, deadline_s=HURRY_S)

MATRIX = [
    ("429 with Retry-After", Fault(status=429, retry_after_s=0.05), BUSY, BUSY),
    ("500", Fault(status=500), UNAVAILABLE, UNAVAILABLE),
    ("closed without a word", Fault(drop=True), UNAVAILABLE, UNAVAILABLE),
    ("hang before the first token", Fault(hang_after_chunks=0), OUT_OF_TIME, INTERRUPTED),
    ("hang in the middle", Fault(hang_after_chunks=2), OUT_OF_TIME, BROKEN_OFF),
    ("cut in the middle", Fault(cut_after_chunks=2), INTERRUPTED, BROKEN_OFF),
    ("malformed event", Fault(malformed_after_chunks=2), INTERRUPTED, BROKEN_OFF),
    ("slow drip", Fault(drip_bytes=1, drip_interval_s=0.03), OUT_OF_TIME, INTERRUPTED),
    ("wrong content type", Fault(content_type="text/html"), INTERRUPTED, INTERRUPTED),
    ("oversized body", Fault(oversize_bytes=2_000_000), INTERRUPTED, INTERRUPTED),
]
HARMLESS = {"PROVIDER_RATE_LIMITED", "PROVIDER_TIMEOUT"}
"""No fault of the provider's health: it asked for a pause, or its client was in a hurry."""


@pytest_asyncio.fixture(scope="module")
async def service(session_double: ProviderDouble) -> AsyncIterator[Any]:
    """A router that bears little."""
    settings = Settings(
        openai_base_url=session_double.openai_url,
        anthropic_base_url=session_double.url,
        max_retries=1,
        first_token_timeout_s=SILENCE_S,
        between_tokens_timeout_s=SILENCE_S,
        max_answer_bytes=64 * 1024,
        breaker_failures=2,
        breaker_cooldown_s=COOLDOWN_S,
    )
    async with build(settings) as (binding,):
        yield binding.service


async def ask_for(
    service: Any, prompt: pb.Prompt, *, streamed: bool, deadline_s: float = DEADLINE_S
) -> tuple[str, str]:
    """The text, and the reason of the failure, if there is one; within the deadline."""
    call, text = Call.root(timeout_s=deadline_s, tenant="acme"), ""
    begun = time.monotonic()
    try:
        if streamed:
            async for event in service.stream_generate(pb.StreamGenerateRequest(prompt=prompt), call):
                text += event.delta.text
        else:
            answer = await service.generate(pb.GenerateRequest(prompt=prompt), call)
            text = answer.completion.message.parts[0].text
    except QuartetError as error:
        return text, error.reason
    finally:
        assert time.monotonic() - begun < deadline_s + 1
    return text, ""


async def read_objection(service: Any, ask: Ask, model: str) -> str:
    """Why the route passes the model over."""
    call = Call.root(timeout_s=DEADLINE_S)
    decision = (await service.route(pb.RouteRequest(prompt=ask(QUESTION)), call)).decision
    return str(next(each.rejected_because for each in decision.candidates if each.model == model))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("name", "fault", "whole", "stream"), MATRIX, ids=[row[0] for row in MATRIX])
async def test_it_ends_as_declared_and_heals(
    service: Any,
    double: ProviderDouble,
    ask: Ask,
    name: str,
    fault: Fault,
    whole: End,
    stream: End,
    streamed: bool,
    model: str,
) -> None:
    del name
    end = stream if streamed else whole
    double.script(match=model, reply=Reply(text=TEXT), fault=fault, times=None)
    prompt = ask(QUESTION, model=model)
    text, reason = await ask_for(service, prompt, streamed=streamed, deadline_s=end.deadline_s)
    assert (text, reason, double.calls(model=model)) == (end.words, end.reason, end.calls)
    if end.calls == 1:
        await ask_for(service, prompt, streamed=streamed, deadline_s=end.deadline_s)
    objection = await read_objection(service, ask, model)
    if end.reason in HARMLESS:
        assert "failed" not in objection
    else:
        assert "it failed, and is cooling" in objection
    double.reset()
    await asyncio.sleep(COOLDOWN_S + 0.05)
    assert await ask_for(service, prompt, streamed=streamed) == (f"You said: {QUESTION}", "")
    assert await read_objection(service, ask, model) == ""


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("name", "fault", "whole", "stream"), MATRIX, ids=[row[0] for row in MATRIX])
async def test_before_the_first_word_the_next_model_of_the_route_answers_in_silence(
    service: Any,
    double: ProviderDouble,
    ask: Ask,
    name: str,
    fault: Fault,
    whole: End,
    stream: End,
    streamed: bool,
) -> None:
    del name
    end = stream if streamed else whole
    double.script(match="gpt-6-luna", reply=Reply(text=TEXT), fault=fault, times=None)
    prompt = ask(QUESTION)
    text, reason = await ask_for(service, prompt, streamed=streamed, deadline_s=end.deadline_s)
    if end.words or end.reason == "PROVIDER_TIMEOUT":
        assert (text, reason) == (end.words, end.reason), "no time is left, or words are out"
    else:
        assert (text, reason) == (f"You said: {QUESTION}", "")
    double.reset()
    await asyncio.sleep(COOLDOWN_S + 0.05)
    assert (await ask_for(service, ask(QUESTION, model="gpt-6-luna"), streamed=streamed))[1] == ""
