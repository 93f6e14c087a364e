import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from itertools import pairwise
from typing import Any

import grpc
import pytest

from quartet.common.v1 import message_pb2
from quartet.router.v1 import router_pb2 as pb
from services.kit import names, telemetry
from services.kit.binding import Binding
from services.kit.call import Call
from services.kit.errors import Internal, NotFound
from services.kit.settings import KitSettings
from services.kit.testing import KINDS, OtlpReceiver, ReceivedSpan, client_of, receive_otlp, serve

ROUTER = "quartet.router.v1.RouterService"
INTERNAL, SERVER, CLIENT = 1, 2, 3


class Router:
    """Answers with the trace it runs in, and works under a span of its own."""

    async def list_models(self, request: pb.ListModelsRequest, call: Call) -> pb.ListModelsResponse:
        with telemetry.tracer().start_as_current_span("work"):
            return pb.ListModelsResponse(routes=[telemetry.current_trace_id()])

    async def route(self, request: pb.RouteRequest, call: Call) -> pb.RouteResponse:
        raise NotFound("no such route") if request.prompt.session else KeyError("a fault")

    async def stream_generate(
        self, request: pb.StreamGenerateRequest, call: Call
    ) -> AsyncIterator[pb.StreamGenerateResponse]:
        for _ in range(3):
            with telemetry.tracer().start_as_current_span("work"):
                await asyncio.sleep(0)
            response = pb.StreamGenerateResponse()
            response.delta.text = telemetry.current_trace_id()
            yield response


@pytest.fixture
async def receiver() -> AsyncIterator[OtlpReceiver]:
    async with receive_otlp() as receiver:
        yield receiver


@pytest.fixture
async def recording(receiver: OtlpReceiver) -> AsyncIterator[telemetry.Telemetry]:
    sending = telemetry.configure("router", KitSettings(otlp_endpoint=receiver.endpoint))
    yield sending
    await asyncio.to_thread(sending.shutdown)


@pytest.fixture(params=KINDS)
async def client(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    async with client_of(request.param, ROUTER, Router()) as client:
        yield client


async def spans_of(
    recording: telemetry.Telemetry, receiver: OtlpReceiver, trace_id: str
) -> list[ReceivedSpan]:
    await asyncio.to_thread(recording.flush)
    return receiver.trace(trace_id)


def a_prompt(session: str = "") -> pb.Prompt:
    prompt = pb.Prompt(session=session)
    prompt.messages.add(role=message_pb2.ROLE_USER).parts.add(text="hello")
    return prompt


def is_chain(spans: list[ReceivedSpan]) -> bool:
    """Each span is the child of the one before."""
    return all(child.parent_id == parent.span_id for parent, child in pairwise(spans))


async def test_a_call_is_one_trace_from_the_callers_span_to_the_methods(
    client: Any, recording: telemetry.Telemetry, receiver: OtlpReceiver
) -> None:
    with telemetry.tracer().start_as_current_span("caller"):
        response = await client.list_models(pb.ListModelsRequest(), Call.root(timeout_s=5))
        assert response.routes[0] == telemetry.current_trace_id()
    spans = await spans_of(recording, receiver, response.routes[0])
    rpcs = [span for span in spans if span.name == f"{ROUTER}/ListModels"]
    assert [span.kind for span in rpcs] in ([INTERNAL], [CLIENT, SERVER])
    assert (spans[0].name, spans[0].parent_id, spans[-1].name) == ("caller", "", "work")
    assert is_chain(spans)
    for span in rpcs:
        assert span.service == "router"
        assert span.attributes[names.RPC_SYSTEM] == "grpc"
        assert span.attributes[names.RPC_METHOD] == f"{ROUTER}/ListModels"
        assert span.attributes[names.RPC_STATUS] == "OK"


async def test_a_stream_is_one_trace_and_its_span_lasts_to_its_end(
    client: Any, recording: telemetry.Telemetry, receiver: OtlpReceiver
) -> None:
    with telemetry.tracer().start_as_current_span("caller"):
        stream = client.stream_generate(pb.StreamGenerateRequest(prompt=a_prompt()), Call.root(timeout_s=5))
        async with aclosing(stream) as events:
            traces = {event.delta.text async for event in events}
        assert traces == {telemetry.current_trace_id()}
    spans = await spans_of(recording, receiver, traces.pop())
    work = [span for span in spans if span.name == "work"]
    assert len(work) == 3
    (serving,) = {span.parent_id for span in work}
    (server,) = [span for span in spans if span.span_id == serving]
    assert server.kind in (INTERNAL, SERVER)
    assert server.end_ns >= max(span.end_ns for span in work)


@pytest.mark.parametrize(
    ("session", "error", "status"), [("s", NotFound, "NOT_FOUND"), ("", Internal, "INTERNAL")]
)
async def test_a_failed_call_has_its_status_on_its_spans(
    client: Any,
    recording: telemetry.Telemetry,
    receiver: OtlpReceiver,
    session: str,
    error: type[Exception],
    status: str,
) -> None:
    with telemetry.tracer().start_as_current_span("caller"):
        trace_id = telemetry.current_trace_id()
        with pytest.raises(error):
            await client.route(pb.RouteRequest(prompt=a_prompt(session)), Call.root(timeout_s=5))
    spans = await spans_of(recording, receiver, trace_id)
    rpcs = [span for span in spans if span.name == f"{ROUTER}/Route"]
    assert rpcs
    for span in rpcs:
        assert (span.attributes[names.RPC_STATUS], span.attributes[names.ERROR_TYPE]) == (status, status)


async def test_a_trace_that_its_caller_does_not_sample_is_kept_and_not_sent(
    recording: telemetry.Telemetry, receiver: OtlpReceiver
) -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    metadata = (("traceparent", f"00-{trace_id}-b7ad6b7169203331-00"),)
    async with (
        serve(Binding(ROUTER, Router())) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        start: Any = channel.unary_unary(f"/{ROUTER}/ListModels")
        answer = pb.ListModelsResponse.FromString(await start(b"", metadata=metadata))
    assert list(answer.routes) == [trace_id]
    assert await spans_of(recording, receiver, trace_id) == []


async def test_durations_of_calls_are_sent_as_metrics(receiver: OtlpReceiver) -> None:
    sending = telemetry.configure("router", KitSettings(otlp_endpoint=receiver.endpoint, trace_ratio=0))
    async with client_of("remote", ROUTER, Router()) as client:
        await client.list_models(pb.ListModelsRequest(), Call.root(timeout_s=5))
    await asyncio.to_thread(sending.shutdown)
    assert {names.RPC_SERVER_DURATION, names.RPC_CLIENT_DURATION} <= receiver.metric_names
    assert receiver.spans == []


async def test_without_an_endpoint_a_call_has_a_trace_id_and_nothing_is_sent(client: Any) -> None:
    sending = telemetry.configure("router", KitSettings(otlp_endpoint=""))
    response = await client.list_models(pb.ListModelsRequest(), Call.root(timeout_s=5))
    assert len(response.routes[0]) == 32
    assert int(response.routes[0], 16)
    sending.shutdown()
