"""What the tests of clients and servers ask, and of whom."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any

from quartet.common.v1 import message_pb2
from quartet.router.v1 import router_pb2 as pb
from services.kit.call import Call

ROUTER = "quartet.router.v1.RouterService"
Connect = Callable[[object], AbstractAsyncContextManager[Any]]


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
