"""A caller cannot tell a local client from a remote one: every test runs against both."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any

import pytest

from quartet.common.v1 import message_pb2
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
    Unimplemented,
)
from services.kit.testing import KINDS, client_of

ROUTER = "quartet.router.v1.RouterService"
SOON_S = 0.5
"""Far below every deadline here, far above what a loaded machine needs for a cancellation."""

Connect = Callable[[object], AbstractAsyncContextManager[Any]]


@pytest.fixture(params=KINDS)
def connect(request: pytest.FixtureRequest) -> Connect:
    return lambda service: client_of(str(request.param), ROUTER, service)


def a_prompt() -> pb.Prompt:
    prompt = pb.Prompt()
    prompt.messages.add(role=message_pb2.ROLE_USER).parts.add(text="What is the notice period?")
    return prompt


def a_request() -> pb.GenerateRequest:
    return pb.GenerateRequest(prompt=a_prompt())


def a_stream_request() -> pb.StreamGenerateRequest:
    return pb.StreamGenerateRequest(prompt=a_prompt())


def a_delta(text: str) -> pb.StreamGenerateResponse:
    response = pb.StreamGenerateResponse()
    response.delta.text = text
    return response


def a_call(**options: Any) -> Call:
    return Call.root(**{"timeout_s": 10.0, **options})


async def read(stream: AsyncGenerator[Any, None], into: list[Any] | None = None) -> list[Any]:
    """Every message of a stream; `into` keeps those that came before an error."""
    got = [] if into is None else into
    async with aclosing(stream) as events:
        async for event in events:
            got.append(event)
    return got


class Witness:
    """A service that waits for ever and notes how it ends."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.ended = asyncio.Event()
        self.how: BaseException | None = None

    async def generate(self, request: pb.GenerateRequest, call: Call) -> pb.GenerateResponse:
        try:
            self.begun.set()
            await asyncio.Event().wait()
        except BaseException as error:
            self.how = error
            raise
        finally:
            self.ended.set()
        raise AssertionError

    async def stream_generate(
        self, request: pb.StreamGenerateRequest, call: Call
    ) -> AsyncIterator[pb.StreamGenerateResponse]:
        try:
            yield a_delta("first")
            self.begun.set()
            await asyncio.Event().wait()
        finally:
            self.ended.set()


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
        assert 6 < seen[0] < 7.1, "gRPC rounds a time-out up by a hundredth"

    async def test_a_unary_call_ends_at_its_deadline(self, connect: Connect) -> None:
        service = Witness()
        async with connect(service) as client:
            started = time.monotonic()
            with pytest.raises(DeadlineExceeded) as caught:
                await client.generate(a_request(), a_call(timeout_s=0.2))
            assert 0.15 < time.monotonic() - started < 0.2 + SOON_S
            assert caught.value.reason == "DEADLINE_EXCEEDED"
            assert "RouterService/Generate ran out of time" in caught.value.message
            await asyncio.wait_for(service.ended.wait(), SOON_S)

    async def test_a_stream_ends_at_its_deadline(self, connect: Connect) -> None:
        service = Witness()
        got: list[Any] = []
        async with connect(service) as client:
            with pytest.raises(DeadlineExceeded):
                await read(client.stream_generate(a_stream_request(), a_call(timeout_s=0.3)), into=got)
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


class TestMetadata:
    async def test_the_caller_and_the_metadata_arrive(self, connect: Connect) -> None:
        seen: list[Call] = []

        class Service:
            async def list_models(self, request: pb.ListModelsRequest, call: Call) -> pb.ListModelsResponse:
                seen.append(call)
                return pb.ListModelsResponse()

        incoming = a_call(tenant="acme", key_id="qk_1", metadata={"x-mine": "stays here"})
        call = incoming.outgoing(metadata={"x-quartet-session": "s1", "x-odd": "ä\n"})
        async with connect(Service()) as client:
            await client.list_models(pb.ListModelsRequest(), call)
        (served,) = seen
        assert (served.tenant, served.key_id) == ("acme", "qk_1")
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
