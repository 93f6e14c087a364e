from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

from quartet.gateway.v1 import document_pb2 as outer
from quartet.pipeline.v1 import pipeline_pb2 as inner
from services.gateway.adapters.twins import PassThrough, collection_target, convert
from services.gateway.domain.admission import Caller
from services.gateway.domain.front import Front
from services.gateway.ports import Pipeline
from services.kit.call import Call


class DocumentService:
    """`quartet.gateway.v1.DocumentService`: admits calls and hands them to the pipeline service."""

    def __init__(self, front: Front, pipeline: Pipeline) -> None:
        self._front = front
        self._pipeline = pipeline
        hand = PassThrough(front)
        self.create_collection = hand.unary(
            "CreateCollection",
            pipeline.create_collection,
            inner.CreateCollectionRequest,
            outer.CreateCollectionResponse,
            collection_of=lambda request: request.collection.name,
        )
        self.list_collections = hand.unary(
            "ListCollections",
            pipeline.list_collections,
            inner.ListCollectionsRequest,
            outer.ListCollectionsResponse,
            lists=True,
        )
        self.delete_collection = hand.unary(
            "DeleteCollection",
            pipeline.delete_collection,
            inner.DeleteCollectionRequest,
            outer.DeleteCollectionResponse,
            collection_of=lambda request: request.name,
        )
        self.get_ingest_job = hand.unary(
            "GetIngestJob",
            pipeline.get_ingest_job,
            inner.GetIngestJobRequest,
            outer.GetIngestJobResponse,
            look_up=self._job,
        )
        self.watch_ingest_job = hand.stream(
            "WatchIngestJob",
            pipeline.watch_ingest_job,
            inner.WatchIngestJobRequest,
            outer.WatchIngestJobResponse,
            look_up=self._job,
        )
        self.cancel_ingest_job = hand.unary(
            "CancelIngestJob",
            pipeline.cancel_ingest_job,
            inner.CancelIngestJobRequest,
            outer.CancelIngestJobResponse,
            look_up=self._job,
            gated=False,
        )
        self.get_document = hand.unary(
            "GetDocument",
            pipeline.get_document,
            inner.GetDocumentRequest,
            outer.GetDocumentResponse,
            look_up=self._document,
        )
        self.list_documents = hand.unary(
            "ListDocuments",
            pipeline.list_documents,
            inner.ListDocumentsRequest,
            outer.ListDocumentsResponse,
            collection_of=lambda request: request.collection,
        )
        self.delete_document = hand.unary(
            "DeleteDocument",
            pipeline.delete_document,
            inner.DeleteDocumentRequest,
            outer.DeleteDocumentResponse,
            look_up=self._document,
        )
        self.search = hand.unary(
            "Search",
            pipeline.retrieve,
            inner.RetrieveRequest,
            outer.SearchResponse,
            collection_of=lambda request: request.collection,
            within=_with_cache_control,
        )

    async def ingest_documents(
        self, requests: AsyncIterator[outer.IngestDocumentsRequest], call: Call
    ) -> outer.IngestDocumentsResponse:
        """Hands each piece on before it reads the next: the pipeline's pace is the client's."""
        caller = await self._front.enter(call, "IngestDocuments")
        with self._front.vigil.hold(caller), self._front.hold(caller):
            response = await self._pipeline.ingest_documents(_pieces(requests, caller), caller.outgoing())
        return convert(response, outer.IngestDocumentsResponse)

    async def _job(self, request: Any, call: Call) -> str:
        found = await self._pipeline.get_ingest_job(inner.GetIngestJobRequest(job_id=request.job_id), call)
        return found.job.collection

    async def _document(self, request: Any, call: Call) -> str:
        wanted = inner.GetDocumentRequest(document_id=request.document_id)
        return (await self._pipeline.get_document(wanted, call)).document.collection


async def _pieces(
    requests: AsyncIterator[outer.IngestDocumentsRequest], caller: Caller
) -> AsyncIterator[inner.IngestDocumentsRequest]:
    async for request in requests:
        if request.WhichOneof("piece") == "collection":
            collection_target(request.collection).check_scope(caller.key)
        piece = convert(request, inner.IngestDocumentsRequest)
        piece.cache_control = caller.options.cache_control
        yield piece


def _with_cache_control(caller: Caller, asked: inner.RetrieveRequest) -> AbstractAsyncContextManager[None]:
    asked.cache_control = caller.options.cache_control
    return nullcontext()
