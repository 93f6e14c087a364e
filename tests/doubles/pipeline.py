"""The pipeline service on a real database, with calls that tests make often."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from quartet.common.v1 import document_pb2, message_pb2
from quartet.pipeline.v1 import pipeline_pb2 as pb
from services.kit.call import Call
from services.kit.client import local
from services.pipeline.settings import Settings
from services.pipeline.wiring import ROUTER, SERVICE, build
from tests.doubles.router import FakeRouter

MOON = b"# The Moon\n\nThe Moon orbits the Earth in 27 days.\n\n## Size\n\nIts diameter is 3474 km.\n"
SUN = b"The Sun is a star. Light from the Sun reaches the Earth in 8 minutes.\n"


def make_call(tenant: str = "acme") -> Call:
    return Call.root(timeout_s=60, tenant=tenant)


@asynccontextmanager
async def pipeline_object(
    database_url: str, router: object, *, config_dir: Path | None = None
) -> AsyncIterator[Any]:
    """The bare service object, built as in production with the router in process."""
    settings = Settings(database_url=database_url, executor_id="test")
    if config_dir is not None:
        settings = settings.model_copy(update={"config_dir": config_dir})
    async with build(settings, {ROUTER: router}) as bindings:
        yield bindings[0].service


@asynccontextmanager
async def pipeline_service(
    database_url: str, router: FakeRouter, *, config_dir: Path | None = None
) -> AsyncIterator[Any]:
    """A client of the service."""
    async with pipeline_object(database_url, router, config_dir=config_dir) as service:
        yield local(SERVICE, service)


async def upload(collection: str, documents: dict[str, bytes]) -> AsyncIterator[pb.IngestDocumentsRequest]:
    """The stream that IngestDocuments takes, in small pieces."""
    yield pb.IngestDocumentsRequest(collection=collection)
    for source, content in documents.items():
        yield pb.IngestDocumentsRequest(header=document_pb2.DocumentHeader(source=source))
        for start in range(0, len(content), 1000):
            yield pb.IngestDocumentsRequest(data=content[start : start + 1000])


async def wait_for_job(service: Any, job_id: str) -> list[document_pb2.IngestJob]:
    """The states of a job until it ended."""
    request = pb.WatchIngestJobRequest(job_id=job_id)
    return [event.job async for event in service.watch_ingest_job(request, make_call())]


async def ingest(
    service: Any, documents: dict[str, bytes], *, collection: str = "space"
) -> document_pb2.IngestJob:
    """The ended job that stored the documents."""
    answer = await service.ingest_documents(upload(collection, documents), make_call())
    states = await wait_for_job(service, answer.job.id)
    return states[-1]


def ask(text: str, *, collection: str = "space", pipeline: str = "rag_answer") -> pb.PipelineInput:
    """A run's input with one question."""
    asked = pb.PipelineInput(pipeline=pipeline, collection=collection)
    asked.messages.add(role=message_pb2.ROLE_USER).parts.add(text=text)
    return asked
