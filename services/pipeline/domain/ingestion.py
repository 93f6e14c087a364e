"""What becomes of one document of a job; each step can be done again."""

import asyncio

import numpy as np
from numpy.typing import NDArray

from services.kit.call import Call
from services.kit.errors import DeadlineExceeded, QuartetError, ResourceExhausted, Unavailable
from services.pipeline.domain.collection import Collection
from services.pipeline.domain.document import UnreadableDocumentError
from services.pipeline.domain.embedding import BATCH_TEXTS, Embedder
from services.pipeline.domain.job import EmbeddedDocument, IngestItem
from services.pipeline.domain.library import Library
from services.pipeline.ports import DATABASE_UNREACHABLE, DocumentReader, DocumentStore, ItemStore

RECIPE_VERSION = 1
"""Raised when readers or the splitter change so much that stored documents should be made anew."""

EMBED_TIMEOUT_S = 120.0
PATIENCE_S = (0.5, 1, 2, 4, 8, 15, 30)
"""Waits between tries while the router is away or full."""


class Ingestion:
    """Reads, splits, embeds and stores a document, or marks it as failed and says what to do."""

    def __init__(
        self,
        library: Library,
        items: ItemStore,
        documents: DocumentStore,
        reader: DocumentReader,
        embedder: Embedder,
    ) -> None:
        self._library = library
        self._items = items
        self._documents = documents
        self._reader = reader
        self._embedder = embedder

    async def ingest(self, job_id: str, position: int) -> None:
        """Takes one document of a job to its end; nothing is done twice, nor after the job was stopped.

        Raises Unavailable while the database is away: then it may be called again.
        """
        item = await self._items.take(job_id, position)
        if item is None:
            return
        try:
            await self._store(item)
        except UnreadableDocumentError as error:
            await self._items.fail(item, f"it could not be read: {error}")
        except QuartetError as error:
            if error.reason == DATABASE_UNREACHABLE:
                raise
            await self._items.fail(item, f"{error.message} (ingest it again then)")

    async def give_up(self, job_id: str, position: int) -> None:
        """Marks a document as failed that met a fault of ours."""
        item = await self._items.take(job_id, position)
        if item is not None:
            await self._items.fail(item, "it met an internal fault: report it with the id of this job")

    async def _store(self, item: IngestItem) -> None:
        collection = await self._library.open(item.tenant, item.collection)
        figures = self._embedder.figures(collection.embedding_model)
        size = figures.chunk_size
        recipe = f"{RECIPE_VERSION}/{size.max_tokens}/{size.overlap_tokens}/{figures.label_tokens}"
        if await self._documents.is_stored(collection, item, recipe):
            await self._items.skip(item)
            return
        document = await self._reader.read(item.document, size, label_tokens=figures.label_tokens)
        texts = document.embedded_texts
        batches: list[NDArray[np.float32]] = []
        for start in range(0, len(texts), BATCH_TEXTS):
            if start and not await self._items.is_wanted(item):
                return
            batches.append(await self._embed(item, collection, texts[start : start + BATCH_TEXTS]))
        embedded = EmbeddedDocument(document=document, vectors=np.concatenate(batches), recipe=recipe)
        await self._items.store(item, collection, embedded)

    async def _embed(self, item: IngestItem, collection: Collection, texts: list[str]) -> NDArray[np.float32]:
        for patience_s in (*PATIENCE_S, None):
            call = Call.root(timeout_s=EMBED_TIMEOUT_S, tenant=item.tenant)
            try:
                embedded = await self._embedder.embed(
                    texts,
                    model=collection.embedding_model,
                    call=call,
                    timeout_s=EMBED_TIMEOUT_S,
                    cache_control=item.cache_control,
                )
            except (Unavailable, ResourceExhausted, DeadlineExceeded):
                if patience_s is None:
                    raise
                await asyncio.sleep(patience_s)
            else:
                return embedded.vectors
        raise AssertionError("the last try returns or raises")
