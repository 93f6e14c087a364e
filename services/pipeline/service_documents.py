import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

from quartet.common.v1 import document_pb2
from quartet.pipeline.v1 import pipeline_pb2 as pb
from services.kit.call import Call
from services.kit.errors import NotFound
from services.pipeline.domain.collection import unknown_collection
from services.pipeline.domain.library import Library
from services.pipeline.domain.paging import cut_page, page_limit, read_token
from services.pipeline.domain.reception import Reception
from services.pipeline.ports import CollectionStore, DocumentStore, JobStore, TenantData

WATCH_PERIOD_S = 0.2
"""Between looks at a watched job: a change is seen within this time, whichever replica made it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Documents:
    """What the rpcs for documents work with."""

    library: Library
    reception: Reception
    collections: CollectionStore
    documents: DocumentStore
    jobs: JobStore
    tenant_data: TenantData


class DocumentMethods:
    """The contract's rpcs for collections, documents and the jobs that store them."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    async def create_collection(
        self, request: pb.CreateCollectionRequest, call: Call
    ) -> pb.CreateCollectionResponse:
        collection = await self._documents.library.create(call.tenant, request.collection, call)
        return pb.CreateCollectionResponse(collection=collection.to_proto())

    async def list_collections(
        self, request: pb.ListCollectionsRequest, call: Call
    ) -> pb.ListCollectionsResponse:
        limit = page_limit(request.page_size)
        names = list(request.collections.names) if request.HasField("collections") else None
        found = await self._documents.collections.page(
            call.tenant, names=names, after=read_token(request.page_token), limit=limit + 1
        )
        page, token = cut_page(found, limit, lambda collection: collection.name)
        return pb.ListCollectionsResponse(
            collections=[collection.to_proto() for collection in page], next_page_token=token
        )

    async def delete_collection(
        self, request: pb.DeleteCollectionRequest, call: Call
    ) -> pb.DeleteCollectionResponse:
        deleted = await self._documents.collections.delete(call.tenant, request.name)
        if deleted is None:
            raise unknown_collection(request.name)
        return pb.DeleteCollectionResponse(deleted_documents=deleted)

    async def ingest_documents(
        self, requests: AsyncIterator[pb.IngestDocumentsRequest], call: Call
    ) -> pb.IngestDocumentsResponse:
        job_id = await self._documents.reception.receive(requests, call)
        return pb.IngestDocumentsResponse(job=await self._job(job_id, call))

    async def get_ingest_job(self, request: pb.GetIngestJobRequest, call: Call) -> pb.GetIngestJobResponse:
        return pb.GetIngestJobResponse(job=await self._job(request.job_id, call))

    async def watch_ingest_job(
        self, request: pb.WatchIngestJobRequest, call: Call
    ) -> AsyncGenerator[pb.WatchIngestJobResponse]:
        shown: document_pb2.IngestJob | None = None
        while True:
            job = await self._job(request.job_id, call)
            if job != shown:
                shown = job
                yield pb.WatchIngestJobResponse(job=job)
            if job.HasField("end_time"):
                return
            await asyncio.sleep(WATCH_PERIOD_S)

    async def cancel_ingest_job(
        self, request: pb.CancelIngestJobRequest, call: Call
    ) -> pb.CancelIngestJobResponse:
        if not await self._documents.jobs.cancel(call.tenant, request.job_id):
            raise _unknown_job(request.job_id)
        return pb.CancelIngestJobResponse(job=await self._job(request.job_id, call))

    async def get_document(self, request: pb.GetDocumentRequest, call: Call) -> pb.GetDocumentResponse:
        document = await self._documents.documents.get(call.tenant, request.document_id)
        if document is None:
            raise _unknown_document(request.document_id)
        return pb.GetDocumentResponse(document=document)

    async def list_documents(self, request: pb.ListDocumentsRequest, call: Call) -> pb.ListDocumentsResponse:
        collection = await self._documents.library.open(call.tenant, request.collection)
        limit = page_limit(request.page_size)
        found = await self._documents.documents.page(
            collection, after=read_token(request.page_token), limit=limit + 1
        )
        page, token = cut_page(found, limit, lambda document: document.source)
        return pb.ListDocumentsResponse(documents=page, next_page_token=token)

    async def delete_document(
        self, request: pb.DeleteDocumentRequest, call: Call
    ) -> pb.DeleteDocumentResponse:
        if not await self._documents.documents.delete(call.tenant, request.document_id):
            raise _unknown_document(request.document_id)
        return pb.DeleteDocumentResponse()

    async def delete_tenant_data(
        self, request: pb.DeleteTenantDataRequest, call: Call
    ) -> pb.DeleteTenantDataResponse:
        del request
        return pb.DeleteTenantDataResponse(deleted_rows=await self._documents.tenant_data.delete(call.tenant))

    async def _job(self, job_id: str, call: Call) -> document_pb2.IngestJob:
        job = await self._documents.jobs.get(call.tenant, job_id)
        if job is None:
            raise _unknown_job(job_id)
        return job


def _unknown_job(job_id: str) -> NotFound:
    return NotFound(
        f"There is no ingest job {job_id!r}: take the id from the answer of IngestDocuments.",
        reason="JOB_NOT_FOUND",
        metadata={"job_id": job_id},
    )


def _unknown_document(document_id: str) -> NotFound:
    return NotFound(
        f"There is no document {document_id!r}: list a collection's documents for their ids.",
        reason="DOCUMENT_NOT_FOUND",
        metadata={"document_id": document_id},
    )
