import asyncio
import heapq
from typing import ClassVar

import numpy as np

from quartet.common.v1 import message_pb2
from services.kit.errors import DeadlineExceeded
from services.pipeline.domain.configuration import RetrieveSettings
from services.pipeline.domain.embedding import Embedder
from services.pipeline.domain.stages.work import Outcome, Slot, Work
from services.pipeline.ports import DocumentStore


class RetrieveStage:
    """Finds the passages nearest to the question, among the collection's and those of the request."""

    kind: ClassVar = "retrieve"
    needs: ClassVar = frozenset({Slot.QUERY_VECTOR, Slot.CHUNKS, Slot.CHUNK_VECTORS})
    gives: ClassVar = frozenset({Slot.PASSAGES})

    def __init__(self, settings: RetrieveSettings, store: DocumentStore, embedder: Embedder) -> None:
        self._settings = settings
        self._store = store
        self._embedder = embedder

    async def process(self, work: Work) -> Outcome:
        figures = self._embedder.figures(work.embedded_by)
        threshold = figures.threshold if self._settings.threshold is None else self._settings.threshold
        # What is below the floor is looked at too, to say how near the nearest was.
        candidates = _nearest(work, self._settings.top_k)
        if work.collection is not None and work.query_vector is not None:
            try:
                async with asyncio.timeout(min(self._settings.timeout_s, work.call.remaining_s())):
                    candidates += await self._store.search(
                        work.collection, work.query_vector, top_k=self._settings.top_k, threshold=-1.0
                    )
            except TimeoutError:
                raise DeadlineExceeded(
                    f"the search took longer than {self._settings.timeout_s:g} s: try again later"
                ) from None
        candidates = heapq.nlargest(self._settings.top_k, candidates, key=lambda passage: passage.score)
        work.passages = [passage for passage in candidates if passage.score >= threshold]
        best = f"best {candidates[0].score:.2f}" if candidates else "there is nothing to search"
        summary = f"{len(work.passages)} passages, {best}, floor {threshold:.2f}"
        if work.passages or self._settings.on_empty == "continue":
            return Outcome(summary=summary)
        where = (
            f"the collection {work.collection.name!r}" if work.collection else "the documents of this request"
        )
        reason = f"No passage of {where} is near enough to the question ({best}, floor {threshold:.2f})."
        return Outcome(summary=summary, abort_reason=reason)


def _nearest(work: Work, top_k: int) -> list[message_pb2.Passage]:
    """The request's own chunks by cosine similarity, computed here; their vectors have length 1."""
    if not work.chunks or work.chunk_vectors is None or work.query_vector is None:
        return []
    scores = work.chunk_vectors @ work.query_vector
    found: list[message_pb2.Passage] = []
    for index in np.argsort(-scores, kind="stable")[:top_k]:
        passage = message_pb2.Passage()
        passage.CopyFrom(work.chunks[int(index)])
        passage.score = float(scores[index])
        found.append(passage)
    return found
