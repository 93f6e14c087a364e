from typing import ClassVar

from services.kit.errors import Internal
from services.kit.usage import add_usage
from services.pipeline.domain.configuration import EmbedSettings
from services.pipeline.domain.embedding import Embedder
from services.pipeline.domain.stages.work import Outcome, Slot, Work


class EmbedStage:
    """Turns the question, and the chunks that came with it, into vectors of one model."""

    kind: ClassVar = "embed"
    needs: ClassVar = frozenset({Slot.QUESTION, Slot.CHUNKS})
    gives: ClassVar = frozenset({Slot.QUERY_VECTOR, Slot.CHUNK_VECTORS})

    def __init__(self, settings: EmbedSettings, embedder: Embedder) -> None:
        self._settings = settings
        self._embedder = embedder

    async def process(self, work: Work) -> Outcome:
        model = work.collection.embedding_model if work.collection else self._settings.model
        embedded = await self._embedder.embed(
            [work.question.text, *work.chunk_texts],
            model=model,
            call=work.call,
            timeout_s=self._settings.timeout_s,
            budget=work.input.budget,
            cache_control=work.input.cache_control,
        )
        if work.collection and embedded.vectors.shape[1] != work.collection.dimension:
            raise Internal(
                f"the model {model!r} makes vectors of another length than when the collection was made",
                reason="EMBEDDING_CHANGED",
            )
        work.query_vector, work.chunk_vectors = embedded.vectors[0], embedded.vectors[1:]
        work.embedded_by = embedded.model
        add_usage(work.usage, embedded.usage)
        return Outcome(summary=f"{len(embedded.vectors)} vectors by {embedded.model}")
