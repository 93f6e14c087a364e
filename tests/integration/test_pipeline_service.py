from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from quartet.common.v1 import document_pb2, message_pb2
from quartet.pipeline.v1 import pipeline_pb2 as pb
from services.kit.call import Call
from services.kit.client import local
from services.pipeline.settings import PipelineSettings
from services.pipeline.wiring import ROUTER, SERVICE, build
from tests.doubles.router import FakeRouter

MOON = b"# The Moon\n\nThe Moon orbits the Earth in 27 days.\n\n## Size\n\nIts diameter is 3474 km.\n"
SUN = b"The Sun is a star. Light from the Sun reaches the Earth in 8 minutes.\n"


def call(tenant: str = "acme") -> Call:
    return Call.root(timeout_s=30, tenant=tenant)


@asynccontextmanager
async def pipeline_service(database_url: str, router: FakeRouter) -> AsyncIterator[Any]:
    settings = PipelineSettings(database_url=database_url, executor_id="test")
    async with build(settings, {ROUTER: router}) as bindings:
        yield local(SERVICE, bindings[0].service)


async def pieces(collection: str, **documents: bytes) -> AsyncIterator[pb.IngestDocumentsRequest]:
    yield pb.IngestDocumentsRequest(collection=collection)
    for source, content in documents.items():
        yield pb.IngestDocumentsRequest(header=document_pb2.DocumentHeader(source=source.replace("_", ".")))
        for start in range(0, len(content), 16):
            yield pb.IngestDocumentsRequest(data=content[start : start + 16])


async def ingest(service: Any, collection: str, **documents: bytes) -> document_pb2.IngestJob:
    started = await service.ingest_documents(pieces(collection, **documents), call())
    job: document_pb2.IngestJob = started.job
    async for event in service.watch_ingest_job(pb.WatchIngestJobRequest(job_id=job.id), call()):
        job = event.job
    return job


def question(text: str, collection: str = "space") -> pb.PipelineInput:
    asked = pb.PipelineInput(pipeline="rag_answer", collection=collection)
    asked.messages.add(role=message_pb2.ROLE_USER).parts.add(text=text)
    return asked


async def test_a_question_is_answered_from_an_ingested_document_with_a_resolvable_citation(
    database_url: str,
) -> None:
    router = FakeRouter()
    async with pipeline_service(database_url, router) as service:
        job = await ingest(service, "space", moon_md=MOON, sun_txt=SUN)
        assert job.state == document_pb2.INGEST_STATE_SUCCEEDED
        assert (job.total_documents, job.done_documents) == (2, 2)

        asked = question("In how many minutes does light from the Sun reach the Earth?")
        answer = await service.run(pb.RunRequest(input=asked), call())

        assert [stage.stage for stage in answer.stages] == [
            "chunk",
            "embed",
            "retrieve",
            "augment",
            "generate",
            "validate",
        ]
        citation = answer.completion.message.parts[0].citations[0]
        got = await service.get_document(pb.GetDocumentRequest(document_id=citation.document_id), call())
        assert got.document.text[citation.start_char : citation.end_char] == citation.quote
        assert got.document.source == "sun.txt"
        assert all(check.passed for check in answer.stages[-1].checks)
        assert answer.completion.usage.model_calls == 2
