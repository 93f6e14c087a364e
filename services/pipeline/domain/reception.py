"""Takes a stream of documents into a job."""

from collections.abc import AsyncIterator

from quartet.common.v1 import document_pb2
from quartet.pipeline.v1 import pipeline_pb2
from services.kit.call import Call
from services.kit.errors import InvalidArgument, ResourceExhausted
from services.pipeline.domain.document import RawDocument
from services.pipeline.domain.job import MAX_DOCUMENT_BYTES, MAX_DOCUMENTS
from services.pipeline.domain.library import Library
from services.pipeline.domain.media_types import media_type
from services.pipeline.ports import JobRunner, JobStore


class Reception:
    """Keeps each document as it comes, one in memory at a time, and starts the job when all are there."""

    def __init__(self, library: Library, jobs: JobStore, runner: JobRunner) -> None:
        self._library = library
        self._jobs = jobs
        self._runner = runner

    async def receive(self, requests: AsyncIterator[pipeline_pb2.IngestDocumentsRequest], call: Call) -> str:
        """The id of the job that was started.

        Raises:
            InvalidArgument: pieces out of order, a type that is not read, or no document.
            ResourceExhausted: a document over 64 MiB, or more than 1,000 of them.
        """
        first = await anext(requests, None)
        if first is None or first.WhichOneof("piece") != "collection":
            raise InvalidArgument.field("collection", "the first message of the stream names the collection")
        collection = await self._library.ensure(call.tenant, first.collection, call)
        job_id = await self._jobs.create(call.tenant, collection.name, first.cache_control)
        received = False
        try:
            incoming = _Incoming(self._jobs, job_id)
            async for request in requests:
                kind = request.WhichOneof("piece")
                if kind == "header":
                    await incoming.begin(request.header)
                elif kind == "data":
                    incoming.add(request.data)
                else:
                    raise InvalidArgument.field("collection", "name the collection once, first of all")
            await incoming.finish()
            received = True
        finally:
            if not received:
                await self._jobs.discard(job_id)
        await self._jobs.open(job_id)
        await self._runner.start(job_id)
        return job_id


class _Incoming:
    """The document that is being received."""

    def __init__(self, jobs: JobStore, job_id: str) -> None:
        self._jobs = jobs
        self._job_id = job_id
        self._count = 0
        self._header: document_pb2.DocumentHeader | None = None
        self._content = bytearray()

    async def begin(self, header: document_pb2.DocumentHeader) -> None:
        await self._keep()
        if self._count == MAX_DOCUMENTS:
            raise ResourceExhausted(
                f"more than {MAX_DOCUMENTS:,} documents in one call: send the rest in another call",
                reason="TOO_MANY_DOCUMENTS",
                metadata={"limit": str(MAX_DOCUMENTS)},
            )
        for field, text in (("source", header.source), ("title", header.title), *header.metadata.items()):
            if "\x00" in text or "\x00" in field:
                raise InvalidArgument.field(f"header.{field}", "holds a NUL character: remove it")
        media_type(header.mime_type, header.source, field="header.mime_type")
        self._header = header

    def add(self, data: bytes) -> None:
        if self._header is None:
            raise InvalidArgument.field("data", "bytes came before a header: begin each document with one")
        if len(self._content) + len(data) > MAX_DOCUMENT_BYTES:
            raise ResourceExhausted(
                f"{self._header.source!r} has more than {MAX_DOCUMENT_BYTES // 2**20} MiB: split it",
                reason="DOCUMENT_TOO_LARGE",
                metadata={"source": self._header.source, "limit": str(MAX_DOCUMENT_BYTES)},
            )
        self._content += data

    async def finish(self) -> None:
        await self._keep()
        if self._count == 0:
            raise InvalidArgument.field("header", "no document came: send a header and its data")

    async def _keep(self) -> None:
        if self._header is None:
            return
        header, content = self._header, bytes(self._content)
        self._header, self._content = None, bytearray()
        document = RawDocument(
            source=header.source,
            mime_type=media_type(header.mime_type, header.source, field="header.mime_type"),
            title=header.title,
            content=content,
        )
        await self._jobs.add(self._job_id, self._count, document, dict(header.metadata))
        self._count += 1
