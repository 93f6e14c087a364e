"""`local/extractive`: a model that needs no key and answers by quoting the sentences that it was given."""

import logging
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

import numpy as np

from quartet.common.v1 import generation_pb2 as pb
from quartet.common.v1.message_pb2 import ROLE_ASSISTANT, ROLE_USER, Citation, Message, Part, Passage
from services.kit.call import Call
from services.kit.errors import ResourceExhausted, Unavailable
from services.router.adapters.extractive.selection import Embed, Pick, Source, select_sentences
from services.router.adapters.minilm.embedder import MiniLMEmbedder
from services.router.domain.adaptation import ModelRequest
from services.router.domain.features import CHARS_PER_TOKEN
from services.router.ports import Accepted, ProviderEvent

NOTHING_FOUND = "The given passages do not contain an answer to this question."

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """What is said, statement by statement; a statement without a passage behind it has no citation."""

    statements: Sequence[tuple[str, Citation | None]]
    finish_reason: pb.FinishReason.ValueType


class ExtractiveProvider:
    """Answers from the passages of the last user message, by words and by meaning.

    Where the embedding model cannot be used now, words decide alone.
    """

    def __init__(self, embedder: MiniLMEmbedder) -> None:
        self._embedder = embedder

    async def generate(self, request: ModelRequest, call: Call) -> pb.Completion:
        """The whole answer."""
        answer = await self._answer(request, call)
        part = Part(
            text="".join(text for text, _ in answer.statements),
            citations=[citation for _, citation in answer.statements if citation is not None],
        )
        completion = _completion(request, answer)
        completion.message.CopyFrom(Message(role=ROLE_ASSISTANT, parts=[part]))
        return completion

    async def stream(self, request: ModelRequest, call: Call) -> AsyncGenerator[ProviderEvent]:
        """The answer sentence by sentence, each followed by its citation."""
        yield Accepted()
        answer = await self._answer(request, call)
        for text, citation in answer.statements:
            yield pb.Delta(text=text)
            if citation is not None:
                yield pb.Delta(citation=citation)
        yield _completion(request, answer)

    async def _answer(self, request: ModelRequest, call: Call) -> _Answer:
        question, passages = read_task(request.messages)
        sources = [Source(title=passage.title, text=passage.text) for _, passage in passages]
        picks = await select_sentences(question, sources, self._similarity(call))
        return _state(picks, passages, request.spec.max_output_tokens * CHARS_PER_TOKEN)

    def _similarity(self, call: Call) -> Embed:
        async def embed(texts: Sequence[str]) -> list[float] | None:
            try:
                embeddings = await self._embedder.embed(texts, timeout_s=call.remaining_s())
            except (Unavailable, ResourceExhausted) as error:
                log.warning("answering by words alone: %s", error)
                return None
            rows = np.frombuffer(embeddings.vectors, dtype="<f4").reshape(-1, embeddings.dimension)
            similarities: list[float] = (rows[1:] @ rows[0]).tolist()
            return similarities

        return embed


def read_task(messages: Sequence[Message]) -> tuple[str, list[tuple[int, Passage]]]:
    """The question, which is the last text of the last user message, and its passages with their numbers.

    Passages are numbered from 1 over all messages, as the other models see them.
    """
    question, passages, count = "", list[tuple[int, Passage]](), 0
    for turn in messages:
        if turn.role == ROLE_USER:
            question, passages = "", []
        for part in turn.parts:
            if part.WhichOneof("kind") == "passage":
                count += 1
                passages.append((count, part.passage))
            elif part.WhichOneof("kind") == "text" and turn.role == ROLE_USER:
                question = part.text
    return question, passages


def _state(picks: Sequence[Pick], passages: Sequence[tuple[int, Passage]], max_chars: int) -> _Answer:
    """Each pick with its mark, as many as there is room for; a first one that is too long is cut."""
    statements: list[tuple[str, Citation | None]] = []
    length = 0
    for pick in picks:
        number, passage = passages[pick.passage]
        gap, quote, mark = " " if statements else "", pick.sentence.text, f" [{number}]"
        if length + len(gap + quote + mark) > max_chars:
            if statements:
                break
            quote, mark = quote[:max_chars], ""
        citation = Citation(
            document_id=passage.document_id,
            chunk_id=passage.chunk_id,
            title=passage.title,
            quote=quote,
            start_char=passage.start_char + pick.sentence.start,
            end_char=passage.start_char + pick.sentence.start + len(quote),
            score=passage.score,
            answer_start_char=length + len(gap),
            answer_end_char=length + len(gap) + len(quote),
            index=number,
            collection=passage.collection,
            source=passage.source,
        )
        statements.append((gap + quote + mark, citation))
        length += len(gap + quote + mark)
        if not mark:
            return _Answer(statements=statements, finish_reason=pb.FINISH_REASON_LENGTH)
    statements = statements or [(NOTHING_FOUND, None)]
    return _Answer(statements=statements, finish_reason=pb.FINISH_REASON_STOP)


def _completion(request: ModelRequest, answer: _Answer) -> pb.Completion:
    read = sum(len(part.text) + len(part.passage.text) for turn in request.messages for part in turn.parts)
    written = sum(len(text) for text, _ in answer.statements)
    usage = pb.Usage(input_tokens=-(-read // CHARS_PER_TOKEN), output_tokens=-(-written // CHARS_PER_TOKEN))
    return pb.Completion(finish_reason=answer.finish_reason, usage=usage)
