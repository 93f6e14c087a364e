"""A caller cannot tell a local client from a remote one: every test runs against both."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from quartet.router.v1 import router_pb2 as pb
from services.kit.call import Call
from services.kit.errors import (
    DeadlineExceeded,
    Internal,
    ResourceExhausted,
    Unimplemented,
)
from tests.contract.kit.asking import (
    Connect,
    Witness,
    a_call,
    a_delta,
    a_request,
    a_stream_request,
    read,
)

SOON_S = 5.0
"""Below the deadlines of calls that are cancelled here, far above what a loaded machine needs for that."""
REACHED_S = 1.0
"""In which a call reaches its method, on a loaded machine as well."""


class TestAnswers:
    async def test_a_response_comes_back(self, connect: Connect) -> None:
        class Service:
            async def list_models(self, request: pb.ListModelsRequest, call: Call) -> pb.ListModelsResponse:
                return pb.ListModelsResponse(routes=["simple_faq"])

        async with connect(Service()) as client:
            response = await client.list_models(pb.ListModelsRequest(), a_call())
        assert list(response.routes) == ["simple_faq"]

    async def test_many_calls_run_at_once(self, connect: Connect) -> None:
        class Service:
            def __init__(self) -> None:
                self.together = asyncio.Barrier(20)

            async def list_models(self, request: pb.ListModelsRequest, call: Call) -> pb.ListModelsResponse:
                await self.together.wait()
                return pb.ListModelsResponse()

        async with connect(Service()) as client:
            calls = (client.list_models(pb.ListModelsRequest(), a_call()) for _ in range(20))
            assert len(await asyncio.gather(*calls)) == 20

    async def test_an_rpc_without_a_method_is_unimplemented(self, connect: Connect) -> None:
        async with connect(object()) as client:
            with pytest.raises(Unimplemented, match="RouterService/Generate"):
                await client.generate(a_request(), a_call())
            with pytest.raises(Unimplemented, match="RouterService/StreamGenerate"):
                await read(client.stream_generate(a_stream_request(), a_call()))


class TestDeadline:
    async def test_a_method_sees_the_time_its_caller_has(self, connect: Connect) -> None:
        seen: list[float] = []

        class Service:
            async def list_models(self, request: pb.ListModelsRequest, call: Call) -> pb.ListModelsResponse:
                seen.append(call.remaining_s())
                return pb.ListModelsResponse()

        async with connect(Service()) as client:
            await client.list_models(pb.ListModelsRequest(), a_call(timeout_s=7))
        assert 4 < seen[0] < 7.1, "gRPC rounds a time-out up by a hundredth"

    async def test_a_unary_call_ends_at_its_deadline(self, connect: Connect) -> None:
        service = Witness()
        async with connect(service) as client:
            started = time.monotonic()
            with pytest.raises(DeadlineExceeded) as caught:
                await client.generate(a_request(), a_call(timeout_s=REACHED_S))
            assert REACHED_S - 0.05 < time.monotonic() - started < REACHED_S + SOON_S
            assert caught.value.reason == "DEADLINE_EXCEEDED"
            assert "RouterService/Generate ran out of time" in caught.value.message
            await asyncio.wait_for(service.ended.wait(), SOON_S)

    async def test_a_stream_ends_at_its_deadline(self, connect: Connect) -> None:
        service = Witness()
        got: list[Any] = []
        async with connect(service) as client:
            with pytest.raises(DeadlineExceeded):
                await read(client.stream_generate(a_stream_request(), a_call(timeout_s=REACHED_S)), into=got)
            await asyncio.wait_for(service.ended.wait(), SOON_S)
        assert got == [a_delta("first")]

    async def test_no_time_left_is_refused_before_the_method(self, connect: Connect) -> None:
        service = Witness()
        async with connect(service) as client:
            with pytest.raises(DeadlineExceeded):
                await client.generate(a_request(), a_call(timeout_s=0))
            with pytest.raises(DeadlineExceeded):
                await read(client.stream_generate(a_stream_request(), a_call(timeout_s=0)))
        assert not service.begun.is_set()


class TestCancellation:
    async def test_a_cancelled_caller_cancels_the_method(self, connect: Connect) -> None:
        service = Witness()
        async with connect(service) as client:
            caller = asyncio.create_task(client.generate(a_request(), a_call()))
            await asyncio.wait_for(service.begun.wait(), 5)
            caller.cancel()
            with pytest.raises(asyncio.CancelledError):
                await caller
            await asyncio.wait_for(service.ended.wait(), SOON_S)
        assert isinstance(service.how, asyncio.CancelledError)

    async def test_a_reader_that_leaves_closes_the_stream(self, connect: Connect) -> None:
        service = Witness()
        async with connect(service) as client:
            async with aclosing(client.stream_generate(a_stream_request(), a_call())) as events:
                assert await anext(events) == a_delta("first")
            await asyncio.wait_for(service.ended.wait(), SOON_S)

    async def test_a_cancelled_reader_closes_the_stream(self, connect: Connect) -> None:
        service = Witness()
        async with connect(service) as client:
            reader = asyncio.create_task(read(client.stream_generate(a_stream_request(), a_call())))
            await asyncio.wait_for(service.begun.wait(), 5)
            reader.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reader
            await asyncio.wait_for(service.ended.wait(), SOON_S)

    async def test_a_cancellation_within_the_method_is_not_the_callers(self, connect: Connect) -> None:
        class Service:
            async def list_models(self, request: pb.ListModelsRequest, call: Call) -> pb.ListModelsResponse:
                child = asyncio.create_task(asyncio.sleep(10))
                child.cancel()
                await child
                raise AssertionError

        async with connect(Service()) as client:
            with pytest.raises(Internal):
                await client.list_models(pb.ListModelsRequest(), a_call())


class TestMetadata:
    async def test_the_caller_and_the_metadata_arrive(self, connect: Connect) -> None:
        seen: list[Call] = []

        class Service:
            async def list_models(self, request: pb.ListModelsRequest, call: Call) -> pb.ListModelsResponse:
                seen.append(call)
                return pb.ListModelsResponse()

        incoming = a_call(
            tenant="acme", key_id="qk_1", models=("a", "b/c"), metadata={"x-mine": "stays here"}
        )
        call = incoming.outgoing(metadata={"x-quartet-session": "s1", "x-odd": "ä\n"})
        async with connect(Service()) as client:
            await client.list_models(pb.ListModelsRequest(), call)
        (served,) = seen
        assert (served.tenant, served.key_id, served.models) == ("acme", "qk_1", ("a", "b/c"))
        assert served.metadata["x-quartet-session"] == "s1"
        assert served.metadata["x-odd"] == "%C3%A4%0A"
        assert "x-mine" not in served.metadata

    async def test_response_headers_of_a_unary_call_arrive(self, connect: Connect) -> None:
        class Service:
            async def list_models(self, request: pb.ListModelsRequest, call: Call) -> pb.ListModelsResponse:
                call.response_headers["x-quartet-model"] = "größer"
                return pb.ListModelsResponse()

        call = a_call()
        async with connect(Service()) as client:
            await client.list_models(pb.ListModelsRequest(), call)
        assert call.response_headers["x-quartet-model"] == "gr%C3%B6%C3%9Fer"

    async def test_response_headers_arrive_with_an_error(self, connect: Connect) -> None:
        class Service:
            async def list_models(self, request: pb.ListModelsRequest, call: Call) -> pb.ListModelsResponse:
                call.response_headers["x-ratelimit-limit-requests"] = "5"
                raise ResourceExhausted("too many", reason="RATE")

        call = a_call()
        async with connect(Service()) as client:
            with pytest.raises(ResourceExhausted):
                await client.list_models(pb.ListModelsRequest(), call)
        assert call.response_headers["x-ratelimit-limit-requests"] == "5"

    async def test_response_headers_of_a_stream_are_there_with_its_first_message(
        self, connect: Connect
    ) -> None:
        class Service(Witness):
            async def stream_generate(
                self, request: pb.StreamGenerateRequest, call: Call
            ) -> AsyncIterator[pb.StreamGenerateResponse]:
                call.response_headers["x-quartet-route"] = "complex"
                yield a_delta("first")
                await asyncio.Event().wait()

        call = a_call()
        async with (
            connect(Service()) as client,
            aclosing(client.stream_generate(a_stream_request(), call)) as events,
        ):
            await anext(events)
            assert call.response_headers["x-quartet-route"] == "complex"


class TestMutation:
    async def test_a_method_that_changes_its_request_does_not_change_the_callers(
        self, connect: Connect
    ) -> None:
        class Service:
            async def generate(self, request: pb.GenerateRequest, call: Call) -> pb.GenerateResponse:
                request.prompt.session = "changed"
                request.prompt.messages.add()
                return pb.GenerateResponse()

        request = a_request()
        async with connect(Service()) as client:
            await client.generate(request, a_call())
        assert request == a_request()

    async def test_a_caller_that_changes_a_response_does_not_change_the_services(
        self, connect: Connect
    ) -> None:
        kept = pb.ListModelsResponse(routes=["complex"])

        class Service:
            async def list_models(self, request: pb.ListModelsRequest, call: Call) -> pb.ListModelsResponse:
                return kept

        async with connect(Service()) as client:
            response = await client.list_models(pb.ListModelsRequest(), a_call())
            response.routes.append("mine")
        assert list(kept.routes) == ["complex"]

    async def test_a_method_may_use_one_message_for_a_whole_stream(self, connect: Connect) -> None:
        class Service:
            async def stream_generate(
                self, request: pb.StreamGenerateRequest, call: Call
            ) -> AsyncIterator[pb.StreamGenerateResponse]:
                message = pb.StreamGenerateResponse()
                for number in range(5):
                    message.delta.text = str(number)
                    yield message

        async with connect(Service()) as client:
            events = await read(client.stream_generate(a_stream_request(), a_call()))
        assert [event.delta.text for event in events] == ["0", "1", "2", "3", "4"]
