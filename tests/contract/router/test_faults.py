"""What comes of a provider that fails: nothing before its first word, a typed error after it."""

import asyncio
import time
from contextlib import aclosing
from typing import Any

import pytest

from quartet.router.v1 import router_pb2 as pb
from services.kit.call import Call
from services.kit.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    QuartetError,
    ResourceExhausted,
    Unavailable,
)
from services.kit.testing import client_of
from services.router.settings import Settings
from services.router.wiring import build
from tests.contract.router.conftest import Ask
from tests.doubles.provider import Fault, ProviderDouble, Reply

MODELS = ("gpt-6-luna", "claude-haiku-5-5")
QUESTION = "What is the capital of France?"


async def generate(router: Any, prompt: pb.Prompt, call: Call) -> pb.GenerateResponse:
    response: pb.GenerateResponse = await router.generate(pb.GenerateRequest(prompt=prompt), call)
    return response


async def stream(router: Any, prompt: pb.Prompt, call: Call) -> list[pb.StreamGenerateResponse]:
    async with aclosing(router.stream_generate(pb.StreamGenerateRequest(prompt=prompt), call)) as events:
        return [event async for event in events]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "fault",
    [Fault(status=500), Fault(status=429, retry_after_s=0.01), Fault(drop=True)],
    ids=["500", "429", "drop"],
)
async def test_a_failure_that_passes_is_tried_again(
    router: Any, double: ProviderDouble, call: Call, ask: Ask, model: str, fault: Fault
) -> None:
    double.script(fault=fault, times=2)
    answer = await generate(router, ask(QUESTION, model=model), call)
    assert answer.completion.message.parts[0].text.startswith("You said")
    assert double.calls(model=model) == 3
    assert answer.completion.usage.model_calls == 3


async def test_a_failing_model_gives_way_to_the_next_of_the_route(
    router: Any, double: ProviderDouble, call: Call, ask: Ask
) -> None:
    double.script(match="gpt-6-luna", fault=Fault(status=503), times=None)
    answer = await generate(router, ask(QUESTION), call)
    assert answer.completion.model == answer.decision.model == "claude-haiku-5-5"
    rejected = {c.model: c.rejected_because for c in answer.decision.candidates if not c.chosen}
    assert "it failed" in rejected["gpt-6-luna"]
    events = await stream(router, ask(QUESTION), call)
    assert events[0].decision.model == events[-1].end.model == "claude-haiku-5-5"


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (400, InvalidArgument, "PROVIDER_REFUSED"),
        (401, FailedPrecondition, "PROVIDER_KEY_REFUSED"),
        (402, FailedPrecondition, "PROVIDER_KEY_REFUSED"),
        (403, FailedPrecondition, "PROVIDER_KEY_REFUSED"),
        (404, NotFound, "PROVIDER_MODEL_NOT_FOUND"),
        (413, InvalidArgument, "REQUEST_TOO_LARGE"),
        (429, ResourceExhausted, "PROVIDER_RATE_LIMITED"),
        (500, Unavailable, "PROVIDER_UNAVAILABLE"),
        (529, Unavailable, "PROVIDER_UNAVAILABLE"),
    ],
)
async def test_a_refusal_has_the_type_that_fits_and_the_provider_s_words(
    routers: Any,
    double: ProviderDouble,
    call: Call,
    ask: Ask,
    model: str,
    status: int,
    kind: type[QuartetError],
    reason: str,
) -> None:
    double.script(fault=Fault(status=status, message="so it is", retry_after_s=0.01), times=None)
    with pytest.raises(kind, match="so it is") as caught:
        await generate(routers["local"], ask(QUESTION, model=model), call)
    assert caught.value.reason == reason


async def test_a_provider_that_has_moved_is_not_followed_and_no_fault_of_the_callers(
    routers: Any, double: ProviderDouble, call: Call, ask: Ask
) -> None:
    double.script(fault=Fault(status=302, headers={"location": f"{double.url}/elsewhere"}), times=None)
    with pytest.raises(Unavailable, match="base URL"):
        await generate(routers["local"], ask(QUESTION, model="gpt-6-luna"), call)


async def test_a_refused_request_is_not_sent_to_the_next_model(
    router: Any, double: ProviderDouble, call: Call, ask: Ask
) -> None:
    double.script(fault=Fault(status=400), times=None)
    with pytest.raises(InvalidArgument):
        await generate(router, ask(QUESTION), call)
    assert double.calls() == 1


async def test_a_refused_key_of_one_vendor_does_not_stop_the_other(
    double: ProviderDouble, call: Call, ask: Ask
) -> None:
    double.script(match="gpt-6-luna", fault=Fault(status=401), times=None)
    # A router of its own: the shared one may still let a model cool down that another test made fail.
    settings = Settings(openai_base_url=double.openai_url, anthropic_base_url=double.url)
    async with (
        build(settings) as (binding,),
        client_of("remote", binding.service_name, binding.service) as router,
    ):
        answer = await generate(router, ask(QUESTION), call)
    assert answer.completion.model == "claude-haiku-5-5"
    assert double.calls(model="gpt-6-luna") == 1


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "fault",
    [Fault(cut_after_chunks=2), Fault(malformed_after_chunks=2), Fault(error_after_chunks=2)],
    ids=["cut", "malformed", "error-event"],
)
async def test_a_stream_that_breaks_off_ends_with_a_typed_error(
    router: Any, double: ProviderDouble, call: Call, ask: Ask, model: str, fault: Fault
) -> None:
    double.script(reply=Reply(text="one two three four"), fault=fault, times=None)
    request = pb.StreamGenerateRequest(prompt=ask(QUESTION, model=model))
    texts: list[str] = []

    async def read() -> None:
        async with aclosing(router.stream_generate(request, call)) as events:
            async for event in events:
                texts.append(event.delta.text)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(Unavailable) as caught:
        await read()
    assert "".join(texts) == "one two "
    assert caught.value.reason in ("PROVIDER_INTERRUPTED", "PROVIDER_UNAVAILABLE")
    assert double.calls() == 1


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "fault",
    [Fault(cut_after_chunks=0), Fault(malformed_after_chunks=0), Fault(content_type="text/html")],
    ids=["cut", "malformed", "content-type"],
)
async def test_before_its_first_word_a_stream_is_tried_again(
    router: Any, double: ProviderDouble, call: Call, ask: Ask, model: str, fault: Fault
) -> None:
    double.script(fault=fault)
    events = await stream(router, ask(QUESTION, model=model), call)
    assert [event.WhichOneof("event") for event in events].count("decision") == 1
    assert "".join(event.delta.text for event in events) == f"You said: {QUESTION}"
    assert double.calls() == 2


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "fault",
    [Fault(cut_after_chunks=1), Fault(malformed_after_chunks=1), Fault(content_type="text/html")],
    ids=["cut", "malformed", "content-type"],
)
async def test_a_broken_answer_is_asked_for_again(
    routers: Any, double: ProviderDouble, call: Call, ask: Ask, model: str, fault: Fault
) -> None:
    double.script(fault=fault)
    answer = await generate(routers["local"], ask(QUESTION, model=model), call)
    assert answer.completion.message.parts[0].text == f"You said: {QUESTION}"
    assert double.calls() == 2


@pytest.mark.parametrize("model", MODELS)
async def test_a_comment_as_long_as_a_book_and_a_slow_drip_harm_nobody(
    routers: Any, double: ProviderDouble, call: Call, ask: Ask, model: str
) -> None:
    double.script(fault=Fault(oversize_bytes=1_000_000))
    double.script(fault=Fault(drip_bytes=7, drip_interval_s=0.0001))
    for _ in range(2):
        events = await stream(routers["local"], ask(QUESTION, model=model), call)
        assert "".join(event.delta.text for event in events) == f"You said: {QUESTION}"


@pytest.mark.parametrize("model", MODELS)
async def test_a_provider_that_hangs_is_left_at_the_deadline(
    router: Any, double: ProviderDouble, ask: Ask, model: str
) -> None:
    double.script(fault=Fault(hang_after_chunks=0), times=None)
    begun = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        await generate(router, ask(QUESTION, model=model), Call.root(timeout_s=0.4))
    assert time.monotonic() - begun < 20
    await double.wait_disconnects(1)


@pytest.mark.parametrize("model", MODELS)
async def test_a_client_that_leaves_closes_the_provider_s_socket_at_once(
    router: Any, double: ProviderDouble, call: Call, ask: Ask, model: str
) -> None:
    double.script(reply=Reply(text="word " * 200), fault=Fault(chunk_delay_s=0.05), times=None)
    prompt = ask(QUESTION, model=model)
    async with aclosing(router.stream_generate(pb.StreamGenerateRequest(prompt=prompt), call)) as events:
        async for event in events:
            if event.WhichOneof("event") == "delta":
                break
    await double.wait_disconnects(1, timeout_s=5)  # ten seconds before its last word


async def test_a_cancelled_call_is_cancelled_at_the_provider(
    router: Any, double: ProviderDouble, call: Call, ask: Ask
) -> None:
    double.script(fault=Fault(delay_s=30), times=None)
    task = asyncio.create_task(generate(router, ask(QUESTION, model="gpt-6-luna"), call))
    await asyncio.sleep(0.3)
    assert double.calls() == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await double.wait_disconnects(1)


async def test_a_finished_stream_leaves_its_connection_for_the_next(
    routers: Any, double: ProviderDouble, call: Call, ask: Ask
) -> None:
    await stream(routers["local"], ask(QUESTION, model="gpt-6-luna"), call)
    before = double.open_connections
    for _ in range(5):
        await stream(routers["local"], ask(QUESTION, model="gpt-6-luna"), call)
    assert double.open_connections == before
