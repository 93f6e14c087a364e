"""Idempotency keys and resumable streams, in the native API and both dialects."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]

from quartet.common.v1 import generation_pb2
from quartet.gateway.v1.gateway_pb2 import GenerateRequest, StreamGenerateRequest, StreamGenerateResponse
from services.gateway.domain.keys import make_key
from services.gateway.domain.response_entries import Slot
from services.kit.call import Call
from services.kit.errors import (
    AlreadyExists,
    InvalidArgument,
    NotFound,
    OutOfRange,
    PermissionDenied,
    QuartetError,
    Unavailable,
)
from tests.contract.gateway.conftest import Gateway, read_to_error
from tests.contract.gateway.test_native import ask, generation

REPLAYED = "x-quartet-replayed"
OURS = ("x-quartet-route", "x-quartet-rule", "x-quartet-model", "x-quartet-cache", "x-quartet-trace-id")
METHODS = {
    "openai": ("OpenAIService", "create_chat_completion"),
    "anthropic": ("AnthropicService", "create_message"),
}


def body(text: str = "Hi", *, model: str = "auto", stream: bool = False) -> bytes:
    message = {"role": "user", "content": text}
    return json.dumps({"model": model, "max_tokens": 99, "messages": [message], "stream": stream}).encode()


def told(call: Call) -> dict[str, str]:
    return {name: value for name, value in call.response_headers.items() if name in OURS}


async def events_of(
    gateway: Gateway, request: StreamGenerateRequest, call: Call | None = None
) -> list[StreamGenerateResponse]:
    stream = gateway.native.stream_generate(request, call or gateway.call())
    return [event async for event in stream]


async def error_of(gateway: Gateway, request: StreamGenerateRequest) -> QuartetError | None:
    seen, error = await read_to_error(gateway.native.stream_generate(request, gateway.call()))
    assert not seen
    return error


@pytest.mark.parametrize("name", ["auto", "rag/docs", "agent/docs"])
async def test_a_whole_answer_is_replayed_as_it_was(gateway: Gateway, name: str) -> None:
    calls = [gateway.call(idempotency_key="k"), gateway.call()]
    requests = [ask(name), ask(name, idempotency_key="k")]
    answers = [
        await gateway.native.generate(request, call) for request, call in zip(requests, calls, strict=True)
    ]
    assert answers[0] == answers[1]
    assert answers[0].completion.usage.cost_micro_usd == 42
    assert told(calls[0]) == told(calls[1])
    assert REPLAYED not in calls[0].response_headers
    assert calls[1].response_headers[REPLAYED] == "true"
    served = len(gateway.router.prompts) + len(gateway.pipeline.inputs) + len(gateway.orchestrator.tasks)
    assert served == 1


@pytest.mark.parametrize("name", ["auto", "rag/docs", "agent/docs"])
async def test_a_stream_is_replayed_as_it_was(gateway: Gateway, name: str) -> None:
    calls = [gateway.call(idempotency_key="k"), gateway.call(idempotency_key="k")]
    request = StreamGenerateRequest(generation=generation(name))
    first, second = [await events_of(gateway, request, call) for call in calls]
    assert first == second
    assert [event.event_number for event in first] == list(range(1, len(first) + 1))
    assert [event.WhichOneof("event") for event in first].count("end") == 1
    assert first[-1].end.usage.cost_micro_usd == 42
    assert told(calls[0]) == told(calls[1])
    assert calls[1].response_headers[REPLAYED] == "true"


@pytest.mark.parametrize("dialect", METHODS)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("model", ["auto", "rag/docs"])
async def test_a_dialect_s_answer_is_replayed_byte_by_byte(
    gateway: Gateway, dialect: str, stream: bool, model: str
) -> None:
    calls = [gateway.call(idempotency_key="k") for _ in range(2)]
    sent = body(model=model, stream=stream)
    first, second = [await gateway.post(*METHODS[dialect], sent, call) for call in calls]
    assert first == second
    assert told(calls[0]) == told(calls[1])
    assert calls[1].response_headers[REPLAYED] == "true"
    assert calls[0].response_headers["x-request-id"] != calls[1].response_headers["x-request-id"]
    assert len(gateway.router.prompts) + len(gateway.pipeline.inputs) == 1


@pytest.mark.parametrize("dialect", METHODS)
@pytest.mark.parametrize("changed", [body("Else"), body(stream=True), body(model="gpt-4o")])
async def test_another_body_is_a_conflict_that_no_sdk_tries_again(
    gateway: Gateway, dialect: str, changed: bytes
) -> None:
    await gateway.post(*METHODS[dialect], body(), gateway.call(idempotency_key="k"))
    call = gateway.call(idempotency_key="k")
    answers = await gateway.post(*METHODS[dialect], changed, call)
    assert call.response_headers["x-quartet-status"] == "409"
    assert call.response_headers["x-should-retry"] == "false"
    assert json.loads(answers[0].data)["error"]["quartet"]["reason"] == "IDEMPOTENCY_KEY_REUSED"
    assert len(gateway.router.prompts) == 1


async def test_the_dialects_do_not_share_answers(gateway: Gateway) -> None:
    await gateway.chat(body(), gateway.call(idempotency_key="k"))
    call = gateway.call(idempotency_key="k")
    await gateway.message(body(), call)
    assert call.response_headers["x-quartet-status"] == "409"
    with pytest.raises(AlreadyExists):
        await gateway.native.generate(ask(), gateway.call(idempotency_key="k"))


async def test_how_urgent_and_how_long_is_not_what_is_asked(gateway: Gateway) -> None:
    await gateway.native.generate(ask(), gateway.call(idempotency_key="k"))
    hurried = {"x_quartet_priority": "critical", "x_quartet_timeout_ms": "9000", "x_request_id": "mine"}
    await gateway.native.generate(ask(), gateway.call(idempotency_key="k", **hurried))
    assert len(gateway.router.prompts) == 1
    with pytest.raises(AlreadyExists):
        await gateway.native.generate(
            ask(), gateway.call(idempotency_key="k", x_quartet_budget_micro_usd="5")
        )


async def test_keys_belong_to_their_tenant_and_open_nothing_for_a_narrow_key(gateway: Gateway) -> None:
    await gateway.native.generate(ask(), gateway.call(idempotency_key="k"))
    for tenant, scopes in (("other", {"*"}), ("acme", {"route:technical", "rpc:Generate"})):
        key, gateway.secret = make_key(tenant=tenant, scopes=frozenset(scopes))
        gateway.keys.keys[key.id] = key
        call = gateway.call(idempotency_key="k")
        if tenant == "acme":
            with pytest.raises(PermissionDenied):
                await gateway.native.generate(ask(), call)
        else:
            await gateway.native.generate(ask("auto"), call)
        assert REPLAYED not in call.response_headers
    assert len(gateway.router.prompts) == 2


async def test_a_waiting_duplicate_gets_the_first_one_s_answer(gateway: Gateway) -> None:
    gateway.router.pause = asyncio.Event()
    asking = [
        asyncio.create_task(gateway.native.generate(ask(), gateway.call(idempotency_key="k")))
        for _ in range(4)
    ]
    await gateway.router.asked.wait()
    gateway.router.pause.set()
    answers = await asyncio.gather(*asking)
    assert all(answer == answers[0] for answer in answers)
    assert len(gateway.router.prompts) == 1


async def test_a_failure_is_not_replayed(gateway: Gateway) -> None:
    gateway.router.error = Unavailable("all failed", reason="PROVIDER_FAILED")
    with pytest.raises(Unavailable) as caught:
        await gateway.native.generate(ask(), gateway.call(idempotency_key="k"))
    assert caught.value.reason == "PROVIDER_FAILED"
    gateway.router.error = None
    call = gateway.call(idempotency_key="k")
    assert (await gateway.native.generate(ask(), call)).completion.usage.cost_micro_usd == 42
    assert REPLAYED not in call.response_headers


async def test_a_client_with_a_key_may_go_and_find_its_answer_later(gateway: Gateway) -> None:
    gateway.router.pause = asyncio.Event()
    asking = asyncio.create_task(gateway.native.generate(ask(), gateway.call(idempotency_key="k")))
    await gateway.router.asked.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await asyncio.sleep(0.05)
    assert not gateway.router.closed.is_set()
    gateway.router.pause.set()
    answer = await gateway.native.generate(ask(), gateway.call(idempotency_key="k"))
    assert answer.completion.message.parts[0].text == "Hello there"
    assert len(gateway.router.prompts) == 1


async def test_a_client_s_deadline_ends_its_wait_and_not_the_answer(gateway: Gateway) -> None:
    gateway.router.pause = asyncio.Event()
    call = gateway.call(idempotency_key="k")
    call.deadline -= 9.8
    with pytest.raises(QuartetError) as caught:
        await gateway.native.generate(ask(), call)
    assert caught.value.status == "DEADLINE_EXCEEDED"
    gateway.router.pause.set()
    assert await gateway.native.generate(ask(), gateway.call(idempotency_key="k"))
    assert len(gateway.router.prompts) == 1


@pytest.mark.parametrize("own_key", ["", "mine"])
async def test_a_broken_stream_is_taken_up_where_it_broke(gateway: Gateway, own_key: str) -> None:
    gateway.router.pause = asyncio.Event()
    call = gateway.call()
    request = StreamGenerateRequest(generation=generation(idempotency_key=own_key), resumable=True)
    seen: list[StreamGenerateResponse] = []
    async with aclosing(gateway.native.stream_generate(request, call)) as events:
        async for event in events:
            seen.append(event)
            if event.WhichOneof("event") == "delta":
                break
    assert not gateway.router.closed.is_set()
    key = own_key or call.response_headers["x-quartet-resume-key"]
    rest = StreamGenerateRequest(
        generation=generation(idempotency_key=key), from_event_number=seen[-1].event_number + 1
    )
    resuming = asyncio.create_task(events_of(gateway, rest))
    await asyncio.sleep(0.05)
    gateway.router.pause.set()
    seen += await resuming
    whole = await events_of(gateway, StreamGenerateRequest(generation=generation(idempotency_key=key)))
    assert seen == whole
    assert [event.WhichOneof("event") for event in seen] == ["decision", "delta", "delta", "end"]
    assert len(gateway.router.prompts) == 1


async def test_a_stream_s_error_ends_it_once_and_again_when_it_is_taken_up(gateway: Gateway) -> None:
    gateway.router.error, gateway.router.error_after = Unavailable("all failed", reason="PROVIDER_FAILED"), 1
    request = StreamGenerateRequest(generation=generation(idempotency_key="k"))
    seen, error = await read_to_error(gateway.native.stream_generate(request, gateway.call()))
    assert [event.WhichOneof("event") for event in seen] == ["decision", "delta"]
    assert isinstance(error, Unavailable)
    request.from_event_number = 2
    rest, again = await read_to_error(gateway.native.stream_generate(request, gateway.call()))
    assert rest == seen[1:]
    assert isinstance(again, Unavailable)
    assert again.reason == error.reason == "PROVIDER_FAILED"
    request.from_event_number = 3
    assert isinstance(await error_of(gateway, request), Unavailable)


async def greeted(frames: AsyncIterator[HttpBody]) -> list[bytes]:
    """The frames up to the first word, behind which the router pauses."""
    seen: list[bytes] = []
    while not any(b"Hello" in frame for frame in seen):
        seen.append((await anext(frames)).data)
    return seen


async def two_who_ask_the_same(
    gateway: Gateway, dialect: str, *, timeout_s: float = 10.0
) -> list[tuple[list[bytes], AsyncIterator[HttpBody]]]:
    """A stream's client and one that follows it, once both have its first word; each with what is to come."""
    service, method = METHODS[dialect]
    asked: list[AsyncIterator[HttpBody]] = []
    for _ in range(2):
        call = gateway.call(idempotency_key="k")
        call.deadline = time.monotonic() + timeout_s
        asked.append(getattr(gateway.clients[service], method)(HttpBody(data=body(stream=True)), call))
    return list(zip(await asyncio.gather(*map(greeted, asked)), asked, strict=True))


@pytest.mark.parametrize("dialect", METHODS)
async def test_a_dialect_s_stream_ends_in_one_error_for_all_who_follow_it(
    gateway: Gateway, dialect: str
) -> None:
    gateway.router.pause = asyncio.Event()
    gateway.router.error, gateway.router.error_after = Unavailable("all failed", reason="PROVIDER_FAILED"), 1
    both = await two_who_ask_the_same(gateway, dialect)
    gateway.router.pause.set()
    for seen, rest in both:
        frames = b"".join([*seen, *[answer.data async for answer in rest]])
        assert frames.count(b"PROVIDER_FAILED") == 1
    assert len(gateway.router.prompts) == 1


@pytest.mark.parametrize("dialect", METHODS)
@pytest.mark.parametrize("end", ["out of time", "stopped"])
async def test_a_stream_that_is_cut_short_ends_in_one_error_for_its_client_and_who_follows(
    gateway: Gateway, dialect: str, end: str
) -> None:
    gateway.router.pause = asyncio.Event()
    both = await two_who_ask_the_same(gateway, dialect, timeout_s=2.0 if end == "out of time" else 10.0)
    if end == "stopped":
        assert gateway.log is not None
        await gateway.log.drain(0.01)
    reason = b"DEADLINE_EXCEEDED" if end == "out of time" else b"ANSWER_INTERRUPTED"
    for seen, rest in both:
        seen += [answer.data async for answer in rest]
        frames = b"".join(seen)
        assert frames.count(b'"error":') == frames.count(reason) == 1
        assert reason in seen[-1]
    assert gateway.router.closed.is_set() is (end == "stopped")
    gateway.router.pause.set()


async def test_what_cannot_be_taken_up_is_said_so(gateway: Gateway) -> None:
    request = StreamGenerateRequest(generation=generation(), from_event_number=3)
    missing = await error_of(gateway, request)
    assert isinstance(missing, InvalidArgument)
    assert missing.reason == "IDEMPOTENCY_KEY_MISSING"
    assert missing.field_violations[0].field == "generation.idempotency_key"
    request.generation.idempotency_key = "k"
    assert isinstance(await error_of(gateway, request), NotFound)
    assert not gateway.router.calls
    await events_of(gateway, StreamGenerateRequest(generation=request.generation))
    request.from_event_number = 5
    assert isinstance(await error_of(gateway, request), OutOfRange)
    request.generation.session = "other"
    assert isinstance(await error_of(gateway, request), AlreadyExists)
    assert len(gateway.router.prompts) == 1


async def test_a_key_of_ours_is_kept_for_minutes_and_one_of_theirs_for_a_day(gateway: Gateway) -> None:
    for key, kept_s in (("", 300), ("mine", 24 * 3600)):
        call = gateway.call()
        request = StreamGenerateRequest(generation=generation(idempotency_key=key), resumable=True)
        await events_of(gateway, request, call)
        slot = Slot("acme", key or call.response_headers["x-quartet-resume-key"])
        assert gateway.responses.remaining_s(slot) == pytest.approx(kept_s, abs=10)


async def test_only_requests_that_want_it_touch_the_log(gateway: Gateway) -> None:
    gateway.responses.is_down = True
    await gateway.native.generate(ask(), gateway.call())
    await events_of(gateway, StreamGenerateRequest(generation=generation()))
    await gateway.chat(body(), gateway.call())
    assert not gateway.responses.commands
    with pytest.raises(Unavailable) as caught:
        await gateway.native.generate(ask(), gateway.call(idempotency_key="k"))
    assert caught.value.reason == "RESPONSE_LOG_UNAVAILABLE"
    assert len(gateway.router.prompts) == 3


async def test_no_peer_is_given_the_key(gateway: Gateway) -> None:
    spec = generation_pb2.GenerationSpec(max_output_tokens=5)
    request = GenerateRequest(generation=generation("auto", spec=spec, idempotency_key="k"))
    await gateway.native.generate(request, gateway.call())
    await gateway.native.generate(ask("rag/docs", idempotency_key="p"), gateway.call())
    assert gateway.router.prompts[0].idempotency_key == ""
    assert gateway.pipeline.inputs[0].idempotency_key == ""
