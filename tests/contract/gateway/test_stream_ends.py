"""However the router behaves, a client's stream ends with one message that says how."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from quartet.common.v1 import generation_pb2, message_pb2
from quartet.gateway.v1 import gateway_pb2
from quartet.router.v1 import router_pb2
from services.kit.call import Call
from services.kit.errors import DeadlineExceeded, NotFound, ResourceExhausted, Unavailable
from services.kit.testing import KINDS
from tests.contract.gateway.conftest import Gateway, make_gateway, read_to_error
from tests.contract.gateway.neighbours import FakeRouter, complete, model_decision

SHORT_TIMEOUT_MS = 150
HANG = "hang"
DECISION = router_pb2.StreamGenerateResponse(decision=model_decision())
RESPONSE_ENDS = ("completed", "incomplete", "failed", "error")
END = router_pb2.StreamGenerateResponse(end=complete())
ENDINGS: dict[str, Any] = {
    "stops": None,
    "refuses": NotFound("there is no such model", reason="MODEL_NOT_FOUND"),
    "is full": ResourceExhausted("the budget is used up", reason="BUDGET_EXCEEDED", retry_after_s=1.5),
    "is away": Unavailable("the provider is away", reason="PROVIDER_UNAVAILABLE"),
    "is late": DeadlineExceeded("the provider took too long"),
    "has a bug": RuntimeError("a bug"),
    HANG: HANG,
}


def part(**kind: Any) -> router_pb2.StreamGenerateResponse:
    return router_pb2.StreamGenerateResponse(delta=generation_pb2.Delta(**kind))


CALL = message_pb2.ToolCall(id="c1", name="weather", arguments_json="{}")
DELTAS = [
    part(text="Hello"),
    part(text=""),
    part(),
    part(refusal="no", part_index=1),
    part(tool_call=CALL, part_index=2),
    part(thinking=message_pb2.Thinking(text="hm"), part_index=3),
    part(thinking=message_pb2.Thinking(redacted_data="x"), part_index=4),
    part(citation=message_pb2.Citation(quote="q", collection="docs")),
]
SCRIPTS = st.tuples(
    st.lists(st.sampled_from([DECISION, END, *DELTAS]), max_size=2)
    | st.lists(st.sampled_from(DELTAS), max_size=4).map(lambda deltas: [DECISION, *deltas])
    | st.lists(st.sampled_from([*DELTAS, END]), max_size=4).map(lambda rest: [DECISION, *rest, END]),
    st.sampled_from(sorted(ENDINGS)),
)
Script = tuple[Sequence[router_pb2.StreamGenerateResponse], str]


class ScriptedRouter(FakeRouter):
    """Sends what it is told, in whatever order, and ends as it is told."""

    script: Script = ((), "stops")

    async def stream_generate(
        self, request: router_pb2.StreamGenerateRequest, call: Call
    ) -> AsyncIterator[router_pb2.StreamGenerateResponse]:
        responses, ending = self.script
        for response in responses:
            yield response
        how = ENDINGS[ending]
        if how == HANG:
            await asyncio.Event().wait()
        if how is not None:
            raise how


def events_of(bodies: Sequence[HttpBody]) -> list[Any]:
    """The JSON of every server-sent event, and the words that are none."""
    lines = b"".join(body.data for body in bodies).decode().split("\n")
    texts = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    return [text if text == "[DONE]" else json.loads(text) for text in texts]


def is_error_body(bodies: Sequence[HttpBody]) -> bool:
    return len(bodies) == 1 and bodies[0].content_type == "application/json"


async def check_native(gateway: Gateway, call: Call) -> None:
    request = gateway_pb2.StreamGenerateRequest()
    request.generation.messages.add(role=message_pb2.ROLE_USER).parts.add(text="hello")
    seen, error = await read_to_error(gateway.native.stream_generate(request, call))
    ends = [number for number, event in enumerate(seen) if event.WhichOneof("event") == "end"]
    # Kit's client raises what a stream's error event says, and lets nothing through behind it.
    assert (len(ends) == 1) != (error is not None)
    assert ends in ([], [len(seen) - 1])
    assert [event.event_number for event in seen] == list(range(1, len(seen) + 1))


async def check_chat(gateway: Gateway, call: Call) -> None:
    body = {"model": "auto", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
    bodies = await gateway.chat(json.dumps(body).encode(), call)
    if is_error_body(bodies):
        return
    events = events_of(bodies)
    assert events.count("[DONE]") == 1
    assert events[-1] == "[DONE]"
    errors = [event for event in events[:-1] if "error" in event]
    finished = [
        event for event in events[:-1] if any(choice["finish_reason"] for choice in event.get("choices", ()))
    ]
    assert len(errors) + len(finished) == 1
    assert events[-2] in (*errors, *finished)


async def check_message(gateway: Gateway, call: Call) -> None:
    body = {"model": "auto", "stream": True, "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}
    bodies = await gateway.message(json.dumps(body).encode(), call)
    if is_error_body(bodies):
        return
    kinds = [event["type"] for event in events_of(bodies)]
    assert sum(kinds.count(kind) for kind in ("message_stop", "error")) == 1
    assert kinds[-1] in ("message_stop", "error")
    assert kinds[0] == "message_start"
    if kinds[-1] == "message_stop":
        assert kinds.count("content_block_start") == kinds.count("content_block_stop")


async def check_response(gateway: Gateway, call: Call) -> None:
    bodies = await gateway.respond(
        json.dumps({"model": "auto", "stream": True, "input": "hello"}).encode(), call
    )
    if is_error_body(bodies):
        return
    events = events_of(bodies)
    kinds = [event["type"].removeprefix("response.") for event in events]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert sum(kinds.count(kind) for kind in RESPONSE_ENDS) == 1
    assert kinds[-1] in RESPONSE_ENDS
    assert kinds[:2] == ["created", "in_progress"]
    if kinds[-1] != "failed":
        assert kinds.count("output_item.added") == kinds.count("output_item.done")


DIALECTS = {
    "native": check_native,
    "chat": check_chat,
    "response": check_response,
    "message": check_message,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_stream_ends_once(kind: str, dialect: str) -> None:
    router = ScriptedRouter()
    loop = asyncio.get_running_loop()
    async with make_gateway(kind, router) as gateway:

        @settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(script=SCRIPTS)
        @example(script=([DECISION, END], HANG))
        @example(script=([DECISION, END], "has a bug"))
        @example(script=([DECISION, END, END], "stops"))
        @example(script=([END], "stops"))
        @example(script=([DELTAS[0], END], "is away"))
        def run(script: Script) -> None:
            router.script = script
            timeout = {"x_quartet_timeout_ms": str(SHORT_TIMEOUT_MS)} if script[1] == HANG else {}
            check = DIALECTS[dialect](gateway, gateway.call(**timeout))
            asyncio.run_coroutine_threadsafe(check, loop).result(20)

        await asyncio.to_thread(run)
