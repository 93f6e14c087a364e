"""What the pipeline service needs from the outside world."""

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from quartet.common.v1 import document_pb2, message_pb2
from quartet.router.v1 import router_pb2
from services.kit.call import Call
from services.pipeline.domain.chunking import ChunkSize
from services.pipeline.domain.collection import Collection
from services.pipeline.domain.document import RawDocument, ReadDocument
from services.pipeline.domain.job import EmbeddedDocument, IngestItem

DATABASE_UNREACHABLE = "DATABASE_UNREACHABLE"
"""The reason of an Unavailable that any store raises while its database is away."""

Vector = NDArray[np.float32]
"""One dimension, little-endian, of length 1."""


class Router(Protocol):
    """The router's contract, as far as pipelines use it."""

    async def generate(
        self, request: router_pb2.GenerateRequest, call: Call
    ) -> router_pb2.GenerateResponse: ...

    def stream_generate(
        self, request: router_pb2.StreamGenerateRequest, call: Call
    ) -> AsyncGenerator[router_pb2.StreamGenerateResponse]: ...

    async def embed(self, request: router_pb2.EmbedRequest, call: Call) -> router_pb2.EmbedResponse: ...


class DocumentReader(Protocol):
    """Reads and splits documents without holding up the event loop."""

    async def read(self, document: RawDocument, size: ChunkSize, *, label_tokens: int) -> ReadDocument:
        """Raises UnreadableDocumentError with what to do."""
        ...


class CollectionStore(Protocol):
    """Where collections are kept."""

    async def find(self, tenant: str, name: str) -> Collection | None: ...

    async def create(
        self, tenant: str, name: str, *, embedding_model: str, dimension: int, description: str
    ) -> Collection:
        """Makes the collection, or gives the one that is there."""
        ...

    async def page(
        self, tenant: str, *, names: Sequence[str] | None, after: str, limit: int
    ) -> list[Collection]:
        """Collections by name, from the first one after `after`; any where `names` is None."""
        ...

    async def delete(self, tenant: str, name: str) -> int | None:
        """The number of documents that went with it; None when there is no such collection."""
        ...


class DocumentStore(Protocol):
    """Where documents and their chunks are kept and searched."""

    async def search(
        self, collection: Collection, vector: Vector, *, top_k: int, threshold: float
    ) -> list[message_pb2.Passage]:
        """The passages whose cosine similarity reaches the threshold, nearest first."""
        ...

    async def get(self, tenant: str, document_id: str) -> document_pb2.Document | None: ...

    async def page(self, collection: Collection, *, after: str, limit: int) -> list[document_pb2.Document]:
        """Documents by source without their text, from the first one after `after`."""
        ...

    async def delete(self, tenant: str, document_id: str) -> bool:
        """False when there is no such document."""
        ...

    async def is_stored(self, collection: Collection, item: IngestItem, recipe: str) -> bool:
        """Whether the same bytes were stored before by the same recipe."""
        ...


class JobStore(Protocol):
    """Where ingest jobs are kept, as their callers see them."""

    async def create(self, tenant: str, collection: str, cache_control: str) -> str:
        """Makes a job that does not show yet, and heeds what is said of caches; gives its id."""
        ...

    async def add(
        self, job_id: str, position: int, document: RawDocument, metadata: dict[str, str]
    ) -> None: ...

    async def open(self, job_id: str) -> None:
        """Lets the job show, all its documents being there."""
        ...

    async def discard(self, job_id: str) -> None:
        """Removes a job that was not opened."""
        ...

    async def get(self, tenant: str, job_id: str) -> document_pb2.IngestJob | None: ...

    async def cancel(self, tenant: str, job_id: str) -> bool:
        """Stops a job that has not ended; False when there is no such job."""
        ...

    async def unended(self) -> Sequence[str]:
        """Jobs that were opened and have not ended, at most 10,000."""
        ...


class ItemStore(Protocol):
    """The documents that wait in jobs; each change of one is made once, however often it is asked for."""

    async def begin(self, job_id: str) -> list[int]:
        """Marks a job as running; gives the positions that are not done, none when it was stopped."""
        ...

    async def take(self, job_id: str, position: int) -> IngestItem | None:
        """A document of a job; None when it is done or the job was stopped."""
        ...

    async def is_wanted(self, item: IngestItem) -> bool:
        """False once it is done or its job was stopped."""
        ...

    async def store(self, item: IngestItem, collection: Collection, document: EmbeddedDocument) -> None:
        """Replaces the document with all its chunks and marks the item as done, in one transaction."""
        ...

    async def skip(self, item: IngestItem) -> None:
        """Marks the item as unchanged."""
        ...

    async def fail(self, item: IngestItem, message: str) -> None:
        """Marks the item as failed."""
        ...

    async def end(self, job_id: str) -> None:
        """Ends a job whose items are done."""
        ...


class TenantData(Protocol):
    """All that is kept of tenants."""

    async def delete(self, tenant: str) -> int:
        """Stops its jobs, removes it all and gives the number of rows; may be repeated after a failure."""
        ...


class JobRunner(Protocol):
    """Runs jobs so that they outlive the process."""

    async def start(self, job_id: str) -> None:
        """Starts a job; a job that was started before goes on as it is."""
        ...
