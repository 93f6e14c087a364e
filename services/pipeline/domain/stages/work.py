"""What the stages of one run hand to each other, and what a stage is."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

from quartet.common.v1 import generation_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import numpy as np
    from numpy.typing import NDArray

    from quartet.common.v1 import message_pb2, stage_pb2
    from quartet.pipeline.v1 import pipeline_pb2
    from quartet.router.v1 import router_pb2
    from services.kit.call import Call
    from services.pipeline.domain.collection import Collection
    from services.pipeline.domain.question import Question


class Slot(StrEnum):
    """The values that stages need and give; each is a field of `Work`."""

    QUESTION = "question"
    CHUNKS = "chunks"
    QUERY_VECTOR = "query_vector"
    CHUNK_VECTORS = "chunk_vectors"
    PASSAGES = "passages"
    PROMPT = "prompt"
    COMPLETION = "completion"
    CHECKS = "checks"


@dataclass(slots=True, kw_only=True)
class Work:
    """One run on its way through the stages. A slot is None until a stage gives it.

    Attributes:
        embedding_model: Of the collection that is searched; empty for the default.
        chunks: Passages of the documents that came with the request, not yet scored.
        chunk_vectors: A row for each of `chunks`.
        usage: Sum of all calls so far.
        embedded_by: The model of `query_vector`.
    """

    call: Call
    input: pipeline_pb2.PipelineInput
    question: Question
    collection: Collection | None
    chunks: list[message_pb2.Passage] | None = None
    chunk_texts: list[str] = field(default_factory=list)
    query_vector: NDArray[np.float32] | None = None
    chunk_vectors: NDArray[np.float32] | None = None
    passages: list[message_pb2.Passage] | None = None
    prompt: router_pb2.Prompt | None = None
    completion: generation_pb2.Completion | None = None
    checks: list[stage_pb2.Check] | None = None
    embedded_by: str = ""
    usage: generation_pb2.Usage = field(default_factory=generation_pb2.Usage)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a stage did, for a person. With an abort reason no later stage runs: the reason is the answer."""

    summary: str
    abort_reason: str = ""


class Stage(Protocol):
    """A step with a fixed contract: it runs only where its needs are met, and gives all that it says."""

    kind: ClassVar[str]
    needs: ClassVar[frozenset[Slot]]
    gives: ClassVar[frozenset[Slot]]

    async def process(self, work: Work) -> Outcome: ...


@runtime_checkable
class StreamingStage(Protocol):
    """A stage that can hand its result over piece by piece; at its end the slots that it gives are filled."""

    def stream(self, work: Work) -> AsyncGenerator[generation_pb2.Delta]: ...

    def outcome(self, work: Work) -> Outcome:
        """What it did, once the stream has ended."""
        ...
