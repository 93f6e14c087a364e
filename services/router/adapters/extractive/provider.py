"""`local/extractive`: a model that needs no key and answers by quoting the sentences that it was given."""

import logging
from collections.abc import AsyncGenerator, Iterator, Sequence
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
class _Statement:
    """A quoted sentence with its mark, as it stands in the answer."""

    text: str
    citation: Citation | None


class ExtractiveProvider:
    """Answers from the passages of the last user message, by words and by meaning.

    Where the embedding model cannot be used now, words decide alone.
    """

    def __init__(self, embedder: MiniLMEmbedder) -> None:
        self._embedder = embedder

    async def generate(self, request: ModelRequest, call: Call) -> pb.Completion:
        """The whole answer."""
        statements = await self._answer(request, call)
        part = Part(
            text="".join(statement.text for statement in statements),
            citations=[statement.citation for statement in statements if statement.citation is not None],
        )
        completion = _completion(request, part.text)
        completion.message.CopyFrom(Message(role=ROLE_ASSISTANT, parts=[part]))
        return completion

    async def stream(self, request: ModelRequest, call: Call) -> AsyncGenerator[ProviderEvent]:
        """The answer sentence by sentence, each followed by its citation."""
        yield Accepted()
        text = ""
        for statement in await self._answer(request, call):
            text += statement.text
            yield pb.Delta(text=statement.text)
            if statement.citation is not None:
                yield pb.Delta(citation=statement.citation)
        yield _completion(request, text)

    async def _answer(self, request: ModelRequest, call: Call) -> list[_Statement]:
        question, passages = read_task(request.messages)
        sources = [Source(title=passage.title, text=passage.text) for _, passage in passages]
        picks = await select_sentences(question, sources, self._similarity(call))
        statements = list(_state(picks, passages, request.spec.max_output_tokens))
        return statements or [_Statement(text=NOTHING_FOUND, citation=None)]

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


def _state(
    picks: Sequence[Pick], passages: Sequence[tuple[int, Passage]], max_output_tokens: int
) -> Iterator[_Statement]:
    """Each pick as a statement with a mark, as long as the answer may be.

    A first one that is too long is left out.
    """
    length = 0
    for pick in picks:
        number, passage = passages[pick.passage]
        quote = pick.sentence.text
        gap = " " if length else ""
        text = f"{gap}{quote} [{number}]"
        if length + len(text) > max_output_tokens * CHARS_PER_TOKEN:
            return
        start = length + len(gap)
        length += len(text)
        yield _Statement(
            text=text,
            citation=Citation(
                document_id=passage.document_id,
                chunk_id=passage.chunk_id,
                title=passage.title,
                quote=quote,
                start_char=passage.start_char + pick.sentence.start,
                end_char=passage.start_char + pick.sentence.end,
                score=passage.score,
                answer_start_char=start,
                answer_end_char=start + len(quote),
                index=number,
                collection=passage.collection,
            ),
        )


def _completion(request: ModelRequest, text: str) -> pb.Completion:
    read = sum(len(part.text) + len(part.passage.text) for turn in request.messages for part in turn.parts)
    usage = pb.Usage(input_tokens=-(-read // CHARS_PER_TOKEN), output_tokens=-(-len(text) // CHARS_PER_TOKEN))
    return pb.Completion(finish_reason=pb.FINISH_REASON_STOP, usage=usage)
