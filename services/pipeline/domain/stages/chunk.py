import asyncio
from typing import ClassVar

from quartet.common.v1 import message_pb2
from services.kit.errors import DeadlineExceeded, InvalidArgument
from services.pipeline.domain.chunking import ChunkSize
from services.pipeline.domain.configuration import ChunkSettings, EmbedderFigures
from services.pipeline.domain.document import UnreadableDocumentError
from services.pipeline.domain.embedding import Embedder
from services.pipeline.domain.stages.work import Outcome, Slot, Work
from services.pipeline.ports import DocumentReader

MAX_INLINE_CHUNKS = 512
"""Of all documents of one request: some 30 s of MiniLM's time. More is a matter for ingest."""


class ChunkStage:
    """Splits the documents that came with the request; those of a collection were split at ingest."""

    kind: ClassVar = "chunk"
    needs: ClassVar = frozenset({Slot.QUESTION})
    gives: ClassVar = frozenset({Slot.CHUNKS})

    def __init__(
        self, settings: ChunkSettings, reader: DocumentReader, embedder: Embedder, model: str
    ) -> None:
        self._settings = settings
        self._reader = reader
        self._embedder = embedder
        self._model = model

    async def process(self, work: Work) -> Outcome:
        work.chunks = []
        model = work.collection.embedding_model if work.collection else self._model
        try:
            async with asyncio.timeout(min(self._settings.timeout_s, work.call.remaining_s())):
                for number, document in enumerate(work.question.documents):
                    figures = self._embedder.figures(model)
                    size = self._size(figures)
                    try:
                        read = await self._reader.read(
                            document,
                            size,
                            label_tokens=max(0, min(48, figures.window_tokens - size.max_tokens)),
                        )
                    except UnreadableDocumentError as error:
                        raise InvalidArgument.field(
                            "input.messages", f"{document.source!r}: {error}", reason="DOCUMENT_UNREADABLE"
                        ) from error
                    work.chunk_texts.extend(read.embedded_texts)
                    work.chunks.extend(
                        message_pb2.Passage(
                            document_id=f"inline-{number + 1}",
                            chunk_id=f"inline-{number + 1}/{position}",
                            title=read.title,
                            text=chunk.text,
                            start_char=chunk.start_char,
                            end_char=chunk.end_char,
                            source=document.source,
                        )
                        for position, chunk in enumerate(read.chunks)
                    )
        except TimeoutError:
            raise DeadlineExceeded(
                f"reading the documents took longer than {self._settings.timeout_s:g} s: ingest them instead"
            ) from None
        if len(work.chunks) > MAX_INLINE_CHUNKS:
            raise InvalidArgument.field(
                "input.messages",
                f"the documents make more than {MAX_INLINE_CHUNKS} chunks: ingest them instead",
                reason="DOCUMENT_TOO_LARGE",
            )
        return Outcome(summary=_describe(len(work.question.documents), len(work.chunks)))

    def _size(self, figures: EmbedderFigures) -> ChunkSize:
        max_tokens = min(self._settings.max_tokens or figures.max_tokens, figures.window_tokens)
        overlap = self._settings.overlap_tokens
        wanted = figures.overlap_tokens if overlap is None else overlap
        return ChunkSize(max_tokens=max_tokens, overlap_tokens=min(wanted, max_tokens // 4))


def _describe(documents: int, chunks: int) -> str:
    return (
        f"{chunks} chunks of {documents} documents"
        if documents
        else "the collection's chunks, made at ingest"
    )
