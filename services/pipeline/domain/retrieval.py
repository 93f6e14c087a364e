from dataclasses import dataclass

from quartet.common.v1 import generation_pb2, message_pb2
from services.kit import names
from services.kit.call import Call
from services.kit.telemetry import tracer
from services.pipeline.domain.collection import Collection
from services.pipeline.domain.embedding import Embedder
from services.pipeline.ports import DocumentStore

TOP_K = 5
EMBED_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Passages, nearest first, and what finding them cost."""

    passages: list[message_pb2.Passage]
    usage: generation_pb2.Usage


class Retriever:
    """Finds passages of one collection by a query's meaning."""

    def __init__(self, embedder: Embedder, documents: DocumentStore) -> None:
        self._embedder = embedder
        self._documents = documents

    async def retrieve(
        self,
        collection: Collection,
        query: str,
        *,
        top_k: int | None,
        threshold: float | None,
        cache_control: str,
        call: Call,
    ) -> Found:
        """At most `top_k` passages that reach the threshold, by default the embedder's."""
        floor = (
            self._embedder.figures(collection.embedding_model).threshold if threshold is None else threshold
        )
        attributes = {
            names.GEN_AI_OPERATION: names.RETRIEVAL,
            names.GEN_AI_DATA_SOURCE: collection.name,
            names.COLLECTION: collection.name,
        }
        with tracer().start_as_current_span(f"{names.RETRIEVAL} {collection.name}", attributes=attributes):
            embedded = await self._embedder.embed(
                [query],
                model=collection.embedding_model,
                call=call,
                timeout_s=EMBED_TIMEOUT_S,
                cache_control=cache_control,
            )
            passages = await self._documents.search(
                collection, embedded.vectors[0], top_k=TOP_K if top_k is None else top_k, threshold=floor
            )
        return Found(passages=passages, usage=embedded.usage)
