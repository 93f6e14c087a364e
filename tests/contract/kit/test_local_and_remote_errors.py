"""Errors and the ends of streams are the same for a local and a remote client."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from quartet.router.v1 import router_pb2 as pb
from services.kit.call import Call
from services.kit.errors import (
    Cancelled,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    NotFound,
    QuartetError,
    ResourceExhausted,
    Unavailable,
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


class TestErrors:
    async def test_every_detail_of_an_error_arrives(self, connect: Connect) -> None:
        raised = ResourceExhausted(
            "the day's tokens are used up: wait, or ask for more",
            reason="QUOTA_EXCEEDED",
            metadata={"limit": "1000", "unit": "tokens"},
            field_violations=[("prompt.spec.max_output_tokens", "at most 100")],
            quota_violations=[("key:qk_ab12/tokens_per_day", "1000 of 1000")],
            retry_after_s=2.5,
        )

        class Service:
            async def generate(self, request: pb.GenerateRequest, call: Call) -> pb.GenerateResponse:
                raise raised

        async with connect(Service()) as client:
            with pytest.raises(ResourceExhausted) as caught:
                await client.generate(a_request(), a_call())
        assert vars(caught.value) == vars(raised)

    @pytest.mark.parametrize("error", QuartetError.__subclasses__(), ids=lambda error: error.__name__)
    async def test_every_kind_of_error_keeps_its_class(
        self, connect: Connect, error: type[QuartetError]
    ) -> None:
        class Service:
            async def list_models(self, request: pb.ListModelsRequest, call: Call) -> pb.ListModelsResponse:
                raise error("so it is", reason="WHY")

        async with connect(Service()) as client:
            with pytest.raises(error) as caught:
                await client.list_models(pb.ListModelsRequest(), a_call())
        assert (type(caught.value), caught.value.reason, str(caught.value)) == (error, "WHY", "so it is")

    async def test_an_unexpected_exception_becomes_internal_with_an_id_and_no_trace(
        self, connect: Connect, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Service:
            async def list_models(self, request: pb.ListModelsRequest, call: Call) -> pb.ListModelsResponse:
                raise ZeroDivisionError("a secret")

        async with connect(Service()) as client:
            with pytest.raises(Internal) as caught:
                await client.list_models(pb.ListModelsRequest(), a_call())
        fault = caught.value.metadata["id"]
        assert fault in caught.value.message
        assert "secret" not in caught.value.message
        (record,) = [record for record in caplog.records if fault in record.getMessage()]
        assert record.exc_info is not None
        assert record.exc_info[0] is ZeroDivisionError

    async def test_a_request_against_the_rules_never_reaches_the_method(self, connect: Connect) -> None:
        service = Witness()
        request = a_request()
        request.prompt.messages[0].ClearField("parts")
        async with connect(service) as client:
            with pytest.raises(InvalidArgument) as caught:
                await client.generate(request, a_call())
            assert [violation.field for violation in caught.value.field_violations] == [
                "prompt.messages[0].parts"
            ]
            with pytest.raises(InvalidArgument):
                await read(client.stream_generate(pb.StreamGenerateRequest(), a_call()))
        assert not service.begun.is_set()

    async def test_a_method_that_refuses_is_not_asked_again(self, connect: Connect) -> None:
        asked = 0

        class Service:
            async def list_models(self, request: pb.ListModelsRequest, call: Call) -> pb.ListModelsResponse:
                nonlocal asked
                asked += 1
                raise Unavailable("every candidate failed", reason="NO_CANDIDATE")

        async with connect(Service()) as client:
            with pytest.raises(Unavailable, match="every candidate failed"):
                await client.list_models(pb.ListModelsRequest(), a_call())
        assert asked == 1

    async def test_a_driver_that_fails_when_time_runs_out_is_out_of_time(self, connect: Connect) -> None:
        class Service:
            async def list_models(self, request: pb.ListModelsRequest, call: Call) -> pb.ListModelsResponse:
                try:
                    await asyncio.sleep(5)
                except asyncio.CancelledError:
                    raise ConnectionError("the query was cancelled") from None
                raise AssertionError

        async with connect(Service()) as client:
            with pytest.raises(DeadlineExceeded):
                await client.list_models(pb.ListModelsRequest(), a_call(timeout_s=0.2))

    async def test_a_long_message_arrives_cut_to_what_headers_hold(self, connect: Connect) -> None:
        class Service:
            async def list_models(self, request: pb.ListModelsRequest, call: Call) -> pb.ListModelsResponse:
                raise NotFound("é" * 5000, reason="LONG")

        async with connect(Service()) as client:
            with pytest.raises(NotFound, match=r"^é{600}") as caught:
                await client.list_models(pb.ListModelsRequest(), a_call())
        assert caught.value.reason == "LONG"

    async def test_a_servers_own_timeout_is_not_the_callers_deadline(self, connect: Connect) -> None:
        class Service:
            async def list_models(self, request: pb.ListModelsRequest, call: Call) -> pb.ListModelsResponse:
                raise TimeoutError

        async with connect(Service()) as client:
            with pytest.raises(Internal):
                await client.list_models(pb.ListModelsRequest(), a_call())


class TestStreamEnds:
    async def test_messages_come_in_order_and_the_stream_ends(self, connect: Connect) -> None:
        class Service:
            async def stream_generate(
                self, request: pb.StreamGenerateRequest, call: Call
            ) -> AsyncIterator[pb.StreamGenerateResponse]:
                for number in range(100):
                    yield a_delta(str(number))

        async with connect(Service()) as client:
            events = await read(client.stream_generate(a_stream_request(), a_call()))
        assert [event.delta.text for event in events] == [str(number) for number in range(100)]

    async def test_an_empty_stream_ends(self, connect: Connect) -> None:
        class Service:
            async def stream_generate(
                self, request: pb.StreamGenerateRequest, call: Call
            ) -> AsyncIterator[pb.StreamGenerateResponse]:
                for _ in ():
                    yield a_delta("")

        async with connect(Service()) as client:
            assert await read(client.stream_generate(a_stream_request(), a_call())) == []

    @pytest.mark.parametrize("before", [0, 1, 3])
    async def test_an_error_comes_after_the_messages_before_it(self, connect: Connect, before: int) -> None:
        class Service:
            async def stream_generate(
                self, request: pb.StreamGenerateRequest, call: Call
            ) -> AsyncIterator[pb.StreamGenerateResponse]:
                for number in range(before):
                    yield a_delta(str(number))
                raise NotFound("no such model: see ListModels", reason="MODEL", metadata={"model": "x"})

        got: list[Any] = []
        async with connect(Service()) as client:
            with pytest.raises(NotFound) as caught:
                await read(client.stream_generate(a_stream_request(), a_call()), into=got)
        assert len(got) == before
        assert (caught.value.reason, caught.value.metadata) == ("MODEL", {"model": "x"})

    async def test_an_error_message_of_the_method_itself_is_raised(self, connect: Connect) -> None:
        class Service:
            async def stream_generate(
                self, request: pb.StreamGenerateRequest, call: Call
            ) -> AsyncIterator[pb.StreamGenerateResponse]:
                yield pb.StreamGenerateResponse(error=Cancelled("the run was cancelled").to_proto())

        async with connect(Service()) as client:
            with pytest.raises(Cancelled, match="the run was cancelled"):
                await read(client.stream_generate(a_stream_request(), a_call()))

    async def test_an_unexpected_exception_in_a_stream_is_internal(self, connect: Connect) -> None:
        class Service:
            async def stream_generate(
                self, request: pb.StreamGenerateRequest, call: Call
            ) -> AsyncIterator[pb.StreamGenerateResponse]:
                yield a_delta("first")
                raise KeyError("a secret")

        async with connect(Service()) as client:
            with pytest.raises(Internal) as caught:
                await read(client.stream_generate(a_stream_request(), a_call()))
        assert caught.value.metadata["id"] in caught.value.message

    async def test_a_slow_reader_holds_the_method_back(self, connect: Connect) -> None:
        sent = 0

        class Service:
            async def stream_generate(
                self, request: pb.StreamGenerateRequest, call: Call
            ) -> AsyncIterator[pb.StreamGenerateResponse]:
                nonlocal sent
                for _ in range(2000):
                    sent += 1
                    yield a_delta("x" * 65536)

        async with (
            connect(Service()) as client,
            aclosing(client.stream_generate(a_stream_request(), a_call())) as events,
        ):
            await anext(events)
            await asyncio.sleep(0.3)
            assert sent < 1000
