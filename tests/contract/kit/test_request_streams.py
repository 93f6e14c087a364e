"""Streams of requests behave alike over gRPC and in process."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from quartet.pipeline.v1 import pipeline_pb2 as pb
from services.kit.call import Call
from services.kit.errors import DeadlineExceeded, InvalidArgument, ResourceExhausted
from services.kit.testing import KINDS, client_of

Connect = Callable[[object], AbstractAsyncContextManager[Any]]
SOON_S = 5.0
"""Far above what a loaded machine needs for the end of a call."""


@pytest.fixture(params=KINDS)
def connect(request: pytest.FixtureRequest) -> Connect:
    return lambda service: client_of(str(request.param), "quartet.pipeline.v1.PipelineService", service)


def a_call(timeout_s: float = 10.0) -> Call:
    return Call.root(timeout_s=timeout_s)


async def pieces(*texts: str) -> AsyncIterator[pb.IngestDocumentsRequest]:
    for text in texts:
        yield pb.IngestDocumentsRequest(data=text.encode())


class Ingest:
    """Takes pieces up to the word `full`, and keeps what it saw."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self.ended = asyncio.Event()

    async def ingest_documents(
        self, requests: AsyncIterator[pb.IngestDocumentsRequest], call: Call
    ) -> pb.IngestDocumentsResponse:
        try:
            async for request in requests:
                if request.data == b"full":
                    raise ResourceExhausted("no more pieces", reason="FULL")
                self.seen.append(request.data)
        finally:
            self.ended.set()
        response = pb.IngestDocumentsResponse()
        response.job.id = f"job-{len(self.seen)}"
        return response


async def test_every_piece_arrives_in_order(connect: Connect) -> None:
    service = Ingest()
    async with connect(service) as client:
        response = await client.ingest_documents(pieces("a", "b", "c"), a_call())
    assert (response.job.id, service.seen) == ("job-3", [b"a", b"b", b"c"])


async def test_a_refusal_arrives_while_pieces_are_still_to_come(connect: Connect) -> None:
    async def endless() -> AsyncIterator[pb.IngestDocumentsRequest]:
        yield pb.IngestDocumentsRequest(data=b"full")
        await asyncio.Event().wait()

    async with connect(Ingest()) as client:
        with pytest.raises(ResourceExhausted, match="no more pieces"):
            await asyncio.wait_for(client.ingest_documents(endless(), a_call()), 5)


async def test_a_piece_against_the_rules_is_refused(connect: Connect) -> None:
    async def wrong() -> AsyncIterator[pb.IngestDocumentsRequest]:
        yield pb.IngestDocumentsRequest(data=b"a")
        yield pb.IngestDocumentsRequest(collection="NOT A NAME")

    service = Ingest()
    async with connect(service) as client:
        with pytest.raises(InvalidArgument) as caught:
            await client.ingest_documents(wrong(), a_call())
    assert [violation.field for violation in caught.value.field_violations] == ["collection"]
    assert service.seen == [b"a"]


async def test_an_error_on_the_callers_own_side_is_the_callers(connect: Connect) -> None:
    async def broken() -> AsyncIterator[pb.IngestDocumentsRequest]:
        yield pb.IngestDocumentsRequest(data=b"a")
        raise FileNotFoundError("report.pdf")

    service = Ingest()
    async with connect(service) as client:
        with pytest.raises(FileNotFoundError, match=r"report\.pdf"):
            await client.ingest_documents(broken(), a_call())
        await asyncio.wait_for(service.ended.wait(), SOON_S)


async def test_a_sender_that_stalls_runs_into_its_deadline(connect: Connect) -> None:
    async def stalled() -> AsyncIterator[pb.IngestDocumentsRequest]:
        yield pb.IngestDocumentsRequest(data=b"a")
        await asyncio.Event().wait()

    service = Ingest()
    async with connect(service) as client:
        with pytest.raises(DeadlineExceeded):
            await client.ingest_documents(stalled(), a_call(1.0))
        await asyncio.wait_for(service.ended.wait(), SOON_S)
