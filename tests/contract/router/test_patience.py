"""Providers that are slow, silent or endless: each case ends as declared, within its bound."""

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
import pytest_asyncio

from quartet.router.v1 import router_pb2 as pb
from services.kit.call import Call
from services.kit.errors import QuartetError
from services.kit.testing import client_of
from services.router.settings import Settings
from services.router.wiring import build
from tests.contract.router.conftest import Ask
from tests.doubles.provider import Fault, ProviderDouble, Reply

MODELS = ("gpt-6-luna", "claude-haiku-5-5")
WORDS = "one two three four five six"
DEADLINE_S = 20.0


@pytest_asyncio.fixture(scope="module")
async def strict_router(session_double: ProviderDouble) -> AsyncIterator[Any]:
    """A router that waits for nothing long, takes nothing long, and tries once."""
    settings = Settings(
        openai_base_url=session_double.openai_url,
        anthropic_base_url=session_double.url,
        first_token_timeout_s=0.6,
        between_tokens_timeout_s=0.5,
        max_answer_bytes=100_000,
        max_retries=0,
        # What one test breaks must not cool down for the next.
        breaker_failures=1000,
        breaker_min_calls=100_000,
    )
    async with (
        build(settings) as (binding,),
        client_of("local", binding.service_name, binding.service) as client,
    ):
        yield client


async def read(router: Any, prompt: pb.Prompt) -> tuple[str, str]:
    """What came of a stream, and the reason why it ended, empty for a whole answer."""
    call, text = Call.root(timeout_s=DEADLINE_S, tenant="acme"), ""
    request = pb.StreamGenerateRequest(prompt=prompt)
    try:
        async with aclosing(router.stream_generate(request, call)) as events:
            async for event in events:
                text += event.delta.text
    except QuartetError as error:
        return text, error.reason
    return text, ""


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("fault", "text", "declared"),
    [
        (Fault(delay_s=30), "", "PROVIDER_UNAVAILABLE"),
        (Fault(hang_after_chunks=0), "", "PROVIDER_INTERRUPTED"),
        (Fault(hang_after_chunks=2), "one two ", "PROVIDER_INTERRUPTED"),
        (Fault(drip_bytes=1, drip_interval_s=0.02), "", "PROVIDER_INTERRUPTED"),
        (Fault(oversize_bytes=9_000_000), "", "PROVIDER_INTERRUPTED"),
        (Fault(content_type="text/html"), "", "PROVIDER_INTERRUPTED"),
        (Fault(malformed_after_chunks=2), "one two ", "PROVIDER_INTERRUPTED"),
        (Fault(cut_after_chunks=2), "one two ", "PROVIDER_INTERRUPTED"),
        (Fault(error_after_chunks=2), "one two ", "PROVIDER_UNAVAILABLE"),
        (Fault(status=500), "", "PROVIDER_UNAVAILABLE"),
        (Fault(drop=True), "", "PROVIDER_UNAVAILABLE"),
    ],
    ids=[
        "no byte", "no word", "silence", "slow drip", "oversized", "wrong type", "malformed", "cut",
        "error event", "500", "dropped",
    ],
)  # fmt: skip
async def test_a_stream_that_fails_ends_as_declared_long_before_its_deadline(
    strict_router: Any,
    double: ProviderDouble,
    ask: Ask,
    model: str,
    fault: Fault,
    text: str,
    declared: str,
) -> None:
    double.script(reply=Reply(text=WORDS), fault=fault, times=None)
    begun = time.monotonic()
    said, reason = await read(strict_router, ask("Count.", model=model))
    assert time.monotonic() - begun < DEADLINE_S / 2
    assert (said, reason) == (text, declared)
    assert double.calls() == 1


@pytest.mark.parametrize("model", MODELS)
async def test_a_stream_may_pause_for_less_than_is_borne(
    strict_router: Any, double: ProviderDouble, ask: Ask, model: str
) -> None:
    double.script(reply=Reply(text=WORDS), fault=Fault(chunk_delay_s=0.03), times=None)
    assert await read(strict_router, ask("Count.", model=model)) == (WORDS, "")


@pytest.mark.parametrize("model", MODELS)
async def test_a_whole_answer_that_is_too_long_is_refused(
    strict_router: Any, double: ProviderDouble, ask: Ask, model: str
) -> None:
    double.script(fault=Fault(oversize_bytes=200_000), times=None)
    request = pb.GenerateRequest(prompt=ask("Count.", model=model))
    with pytest.raises(QuartetError, match="longer than 100000 bytes") as caught:
        await strict_router.generate(request, Call.root(timeout_s=DEADLINE_S, tenant="acme"))
    assert caught.value.reason == "PROVIDER_INTERRUPTED"


@pytest.mark.parametrize("model", MODELS)
async def test_a_whole_answer_may_take_as_long_as_its_caller_allows(
    strict_router: Any, double: ProviderDouble, ask: Ask, model: str
) -> None:
    double.script(reply=Reply(text=WORDS), fault=Fault(delay_s=0.9), times=None)
    request = pb.GenerateRequest(prompt=ask("Count.", model=model))
    answer = await strict_router.generate(request, Call.root(timeout_s=DEADLINE_S, tenant="acme"))
    assert answer.completion.message.parts[0].text == WORDS
