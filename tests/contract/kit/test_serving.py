import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
import pytest
from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]
from grpc_health.v1 import health_pb2  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection_pb2  # type: ignore[import-untyped]

from quartet.common.v1 import generation_pb2, message_pb2
from quartet.gateway.v1 import openai_pb2  # noqa: F401 - registers the contract
from quartet.pipeline.v1 import pipeline_pb2  # noqa: F401 - registers the contract
from quartet.router.v1 import router_pb2 as pb
from services.kit.binding import Binding
from services.kit.call import Call, header_text
from services.kit.client import Channel, remote
from services.kit.errors import NotFound, ResourceExhausted, Unavailable
from services.kit.serving import AddressTakenError, Server
from services.kit.settings import KitSettings
from services.kit.testing import serve

ROUTER = "quartet.router.v1.RouterService"
OPENAI = "quartet.gateway.v1.OpenAIService"
PIPELINE = "quartet.pipeline.v1.PipelineService"
HEALTH = "grpc.health.v1.Health"
SERVING = health_pb2.HealthCheckResponse.SERVING


class Router:
    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.release = asyncio.Event()
        self.calls: list[Call] = []

    async def list_models(self, request: pb.ListModelsRequest, call: Call) -> pb.ListModelsResponse:
        self.calls.append(call)
        self.begun.set()
        await self.release.wait()
        return pb.ListModelsResponse(routes=["done"])

    async def stream_generate(
        self, request: pb.StreamGenerateRequest, call: Call
    ) -> AsyncIterator[pb.StreamGenerateResponse]:
        response = pb.StreamGenerateResponse()
        response.delta.text = "one"
        yield response
        raise NotFound("it went away", reason="GONE")


def a_call(timeout_s: float = 5.0) -> Call:
    return Call.root(timeout_s=timeout_s)


def a_raw_stream(channel: grpc.aio.Channel) -> Any:
    """What any other gRPC client sees, without kit in between."""
    request = pb.StreamGenerateRequest()
    request.prompt.messages.add(role=message_pb2.ROLE_USER).parts.add(text="hello")
    start: Any = channel.unary_stream(
        f"/{ROUTER}/StreamGenerate",
        request_serializer=pb.StreamGenerateRequest.SerializeToString,
        response_deserializer=pb.StreamGenerateResponse.FromString,
    )
    return start(request, timeout=5)


async def test_a_stream_that_fails_ends_with_an_error_message_and_an_ok_status() -> None:
    async with (
        serve(Binding(ROUTER, Router())) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        stream = a_raw_stream(channel)
        events = [event async for event in stream]
        assert await stream.code() == grpc.StatusCode.OK
    assert [event.WhichOneof("event") for event in events] == ["delta", "error"]
    assert (events[1].error.code, events[1].error.reason) == (5, "GONE")


class SlowRouter:
    """Says one word, and the next after a while."""

    async def stream_generate(
        self, request: pb.StreamGenerateRequest, call: Call
    ) -> AsyncIterator[pb.StreamGenerateResponse]:
        call.keepalive = pb.StreamGenerateResponse(delta=generation_pb2.Delta(text=""))
        yield pb.StreamGenerateResponse(delta=generation_pb2.Delta(text="one"))
        await asyncio.sleep(0.3)
        yield pb.StreamGenerateResponse(delta=generation_pb2.Delta(text="two"))


@pytest.mark.parametrize(("period_s", "silent"), [(0.05, False), (5.0, True)])
async def test_a_silent_stream_gives_signs_of_life(period_s: float, silent: bool) -> None:
    settings = KitSettings(drain_timeout_s=0.2, keepalive_s=period_s)
    async with (
        serve(Binding(ROUTER, SlowRouter()), settings=settings) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        texts = [event.delta.text async for event in a_raw_stream(channel)]
    assert (texts[0], texts[-1]) == ("one", "two")
    assert (texts.count("") == 0) is silent


async def test_health_says_which_contracts_are_served() -> None:
    async with serve(Binding(ROUTER, Router()), Binding(PIPELINE, object())) as server:
        health = remote(HEALTH, server.address)
        for served in ("", ROUTER):
            answer = await health.check(health_pb2.HealthCheckRequest(service=served), a_call())
            assert answer.status == SERVING
        with pytest.raises(NotFound):
            await health.check(health_pb2.HealthCheckRequest(service=PIPELINE), a_call())
        await health.close()


async def test_reflection_lists_only_contracts_with_a_method() -> None:
    async def ask() -> AsyncIterator[Any]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")

    async with serve(Binding(ROUTER, Router()), Binding(PIPELINE, object())) as server:
        client = remote("grpc.reflection.v1alpha.ServerReflection", server.address)
        async with aclosing(client.server_reflection_info(ask(), a_call())) as answers:
            answer = await anext(answers)
        await client.close()
    names = {service.name for service in answer.list_services_response.service}
    assert names == {ROUTER, HEALTH, "grpc.reflection.v1alpha.ServerReflection"}


async def test_draining_reports_not_serving_and_lets_a_call_in_flight_end() -> None:
    router = Router()
    server = await Server([Binding(ROUTER, router)], KitSettings(drain_timeout_s=5)).__aenter__()
    channel = Channel(server.address)
    client, health = remote(ROUTER, channel), remote(HEALTH, channel)
    async with aclosing(health.watch(health_pb2.HealthCheckRequest(service=ROUTER), a_call())) as states:
        assert (await anext(states)).status == SERVING
        in_flight = asyncio.create_task(client.list_models(pb.ListModelsRequest(), a_call()))
        await asyncio.wait_for(router.begun.wait(), 5)
        draining = asyncio.create_task(server.__aexit__(None, None, None))
        assert (await anext(states)).status == health_pb2.HealthCheckResponse.NOT_SERVING
    fresh = remote(ROUTER, server.address)
    with pytest.raises(Unavailable):
        await fresh.list_models(pb.ListModelsRequest(), a_call())
    router.release.set()
    assert list((await in_flight).routes) == ["done"]
    await asyncio.wait_for(draining, 3)
    await fresh.close()
    await channel.close()


async def test_draining_cancels_what_does_not_end_within_its_bound() -> None:
    router = Router()
    async with serve(Binding(ROUTER, router), settings=KitSettings(drain_timeout_s=0.1)) as server:
        client = remote(ROUTER, server.address)
        in_flight = asyncio.create_task(client.list_models(pb.ListModelsRequest(), a_call()))
        await asyncio.wait_for(router.begun.wait(), 5)
    with pytest.raises(Unavailable):
        await asyncio.wait_for(in_flight, 3)
    await client.close()


async def test_draining_covers_what_a_service_does_beyond_its_calls() -> None:
    given: list[float] = []
    begun, release = asyncio.Event(), asyncio.Event()

    async def drain(timeout_s: float) -> None:
        given.append(timeout_s)
        begun.set()
        await release.wait()

    binding = Binding(ROUTER, Router(), drain=drain)
    server = await Server([binding], KitSettings(drain_timeout_s=5)).__aenter__()
    draining = asyncio.create_task(server.__aexit__(None, None, None))
    await asyncio.wait_for(begun.wait(), 3)
    assert not draining.done()
    release.set()
    await asyncio.wait_for(draining, 3)
    assert given == [5]


async def test_a_taken_port_is_refused_with_the_name_of_the_setting() -> None:
    async with serve(Binding(ROUTER, Router())) as server:
        settings = KitSettings(port=server.port)
        with pytest.raises(AddressTakenError, match="set PORT to a free port"):
            await Server([Binding(ROUTER, Router())], settings).__aenter__()


@pytest.mark.parametrize(("public", "tenant"), [(True, ""), (False, "acme")])
async def test_a_public_contract_does_not_believe_who_a_caller_says_it_is(public: bool, tenant: str) -> None:
    router = Router()
    router.release.set()
    async with serve(Binding(ROUTER, router, public=public)) as server:
        client = remote(ROUTER, server.address)
        claimed = Call.root(timeout_s=5, tenant="acme", key_id="qk_1", models=("a",))
        await client.list_models(pb.ListModelsRequest(), claimed)
        await client.close()
    (call,) = router.calls
    assert (call.tenant, call.models) == (tenant, None if public else ("a",))


async def test_a_call_without_a_deadline_gets_the_servers() -> None:
    router = Router()
    router.release.set()
    async with (
        serve(
            Binding(ROUTER, router), settings=KitSettings(unary_timeout_s=33, drain_timeout_s=0.1)
        ) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        start: Any = channel.unary_unary(f"/{ROUTER}/ListModels")
        await start(b"")
    assert 30 < router.calls[0].remaining_s() <= 33


async def test_a_message_above_the_bound_is_refused() -> None:
    router = Router()
    router.release.set()
    settings = KitSettings(max_message_bytes=2048, drain_timeout_s=0.1)
    async with serve(Binding(ROUTER, router), settings=settings) as server:
        client = remote(ROUTER, server.address)
        request = pb.EmbedRequest(texts=["x" * 4096])
        with pytest.raises(ResourceExhausted):
            await client.embed(request, a_call())
        await client.close()


async def test_an_unreachable_peer_is_named_with_its_address() -> None:
    async with serve(Binding(ROUTER, Router())) as server:
        address = server.address
    client = remote(ROUTER, address)
    with pytest.raises(Unavailable, match=f"cannot reach {ROUTER}/ListModels at {address}") as caught:
        await client.list_models(pb.ListModelsRequest(), a_call())
    assert caught.value.reason == "PEER_UNREACHABLE"
    await client.close()


async def test_a_client_finds_a_peer_that_was_restarted() -> None:
    router = Router()
    router.release.set()
    async with serve(Binding(ROUTER, router)) as server:
        port = server.port
        client = remote(ROUTER, server.address)
        await client.list_models(pb.ListModelsRequest(), a_call())
    with pytest.raises(Unavailable):
        await client.list_models(pb.ListModelsRequest(), a_call())
    async with serve(Binding(ROUTER, router), settings=KitSettings(port=port, drain_timeout_s=0.1)):
        async with asyncio.timeout(5):
            while True:
                try:
                    await client.list_models(pb.ListModelsRequest(), a_call())
                    break
                except Unavailable:
                    await asyncio.sleep(0.05)
    await client.close()


@pytest.mark.parametrize("data", [b"\xff", b"\x0a\x7f", b"\x0b" * 20_000])
@pytest.mark.parametrize("name", ["ListModels", "StreamGenerate"])
async def test_bytes_that_are_no_message_are_the_client_s_fault(data: bytes, name: str) -> None:
    async with (
        serve(Binding(ROUTER, Router())) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        method: Any = channel.unary_stream(f"/{ROUTER}/{name}")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await anext(aiter(method(data)))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "quartet.router.v1" in str(caught.value.details())


@pytest.mark.parametrize("wish", ["9" * 5000, "9" * 400, "\u0663", "-1", "1e3", "0", ""])
async def test_a_time_that_is_no_number_leaves_a_public_call_the_usual_one(wish: str) -> None:
    router = Router()
    router.release.set()
    async with (
        serve(Binding(ROUTER, router, public=True), settings=KitSettings(unary_timeout_s=50.0)) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        call: Any = channel.unary_unary(f"/{ROUTER}/ListModels")
        await call(b"", metadata=[("x-quartet-timeout-ms", header_text(wish))])
    assert 40 < router.calls[0].remaining_s() <= 50


class Talkative:
    """Says more than a reader takes."""

    async def stream_generate(
        self, request: pb.StreamGenerateRequest, call: Call
    ) -> AsyncIterator[pb.StreamGenerateResponse]:
        call.response_headers["x-request-id"] = "r1"
        response = pb.StreamGenerateResponse()
        response.delta.text = "x" * 1_000_000
        while True:
            yield response

    async def create_chat_completion(self, request: HttpBody, call: Call) -> AsyncIterator[HttpBody]:
        call.response_headers["x-request-id"] = "r1"
        while True:
            yield HttpBody(data=b"x" * 1_000_000)


async def read_slowly(call: Any, pause_s: float) -> list[Any]:
    responses: list[Any] = []
    async for response in call:
        if not responses:
            await asyncio.sleep(pause_s)
        responses.append(response)
    return responses


async def test_a_deadline_while_the_client_reads_slowly_is_still_the_stream_s_last_message() -> None:
    async with (
        serve(Binding(ROUTER, Talkative(), public=True)) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        request = pb.StreamGenerateRequest()
        request.prompt.messages.add(role=message_pb2.ROLE_USER).parts.add(text="hello")
        start: Any = channel.unary_stream(
            f"/{ROUTER}/StreamGenerate", response_deserializer=pb.StreamGenerateResponse.FromString
        )
        call = start(request.SerializeToString(), metadata=[("x-quartet-timeout-ms", "600")])
        responses = await read_slowly(call, 0.8)
    assert [response.WhichOneof("event") for response in responses[-2:]] == ["delta", "error"]
    assert responses[-1].error.reason == "DEADLINE_EXCEEDED"


@pytest.mark.parametrize("pause_s", [0.3, 3.0], ids=["slowly", "far too slowly"])
async def test_where_no_message_can_tell_of_the_deadline_the_status_does(pause_s: float) -> None:
    async with (
        serve(Binding(OPENAI, Talkative(), public=True)) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        start: Any = channel.unary_stream(f"/{OPENAI}/CreateChatCompletion")
        call = start(b"", metadata=[("x-quartet-timeout-ms", "200")])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await read_slowly(call, pause_s)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize("timeout_ms", range(1, 9))
async def test_a_deadline_at_any_moment_of_a_stream_s_beginning_ends_it(timeout_ms: int) -> None:
    async with (
        serve(Binding(OPENAI, Talkative(), public=True)) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        start: Any = channel.unary_stream(f"/{OPENAI}/CreateChatCompletion")
        for _ in range(20):
            call = start(b"", metadata=[("x-quartet-timeout-ms", str(timeout_ms))])
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await read_slowly(call, 0.0)
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_call_that_a_stopping_server_cancels_may_go_elsewhere() -> None:
    async def cancel(request: bytes, context: Any) -> None:
        await context.abort(grpc.StatusCode.CANCELLED)

    methods: dict[str, Any] = {"ListModels": grpc.unary_unary_rpc_method_handler(cancel)}
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(ROUTER, methods),))
    client = remote(ROUTER, f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
    await server.start()
    with pytest.raises(Unavailable) as caught:
        await client.list_models(pb.ListModelsRequest(), a_call())
    assert caught.value.reason == "PEER_UNREACHABLE"
    await client.close()
    await server.stop(None)
