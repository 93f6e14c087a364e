"""Streams of messages without an error field: a method may say what an error's last message is."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]

from quartet.gateway.v1 import openai_pb2  # noqa: F401 - registers the contract
from services.kit.call import Call
from services.kit.errors import NotFound, QuartetError
from services.kit.testing import KINDS, client_of

OPENAI = "quartet.gateway.v1.OpenAIService"


def say(error: QuartetError) -> HttpBody:
    return HttpBody(data=error.reason.encode())


class Service:
    def __init__(self, *, begins: bool, ends: BaseException | None) -> None:
        self._begins = begins
        self._ends = ends

    async def create_chat_completion(self, request: HttpBody, call: Call) -> AsyncIterator[HttpBody]:
        call.last_words = say
        if self._begins:
            yield HttpBody(data=b"first")
        if self._ends is not None:
            raise self._ends
        await asyncio.Event().wait()


async def read(kind: str, service: Service, *, timeout_s: float = 10.0) -> list[bytes]:
    async with client_of(kind, OPENAI, service) as client:
        call = Call.root(timeout_s=timeout_s)
        return [body.data async for body in client.create_chat_completion(HttpBody(), call)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("ends", "word"), [(NotFound("gone", reason="GONE"), b"GONE"), (RuntimeError("a bug"), b"INTERNAL")]
)
async def test_an_error_is_the_last_message_of_a_stream_that_has_begun(
    kind: str, ends: BaseException, word: bytes
) -> None:
    assert await read(kind, Service(begins=True, ends=ends)) == [b"first", word]


@pytest.mark.parametrize("kind", KINDS)
async def test_before_a_stream_has_begun_an_error_is_a_status(kind: str) -> None:
    with pytest.raises(NotFound):
        await read(kind, Service(begins=False, ends=NotFound("gone", reason="GONE")))


async def test_the_deadline_is_the_last_message_as_well() -> None:
    """Where only the server knows it, as for clients that speak HTTP."""
    assert await read("local", Service(begins=True, ends=None), timeout_s=0.5) == [
        b"first",
        b"DEADLINE_EXCEEDED",
    ]
