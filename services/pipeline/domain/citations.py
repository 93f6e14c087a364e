"""From the `[n]` marks in an answer to the words of the documents that they stand for."""

from collections.abc import Sequence

from quartet.common.v1 import message_pb2
from services.pipeline.domain.sentences import MARKER, Span, sentences, without_markers, words


def marked_numbers(text: str) -> list[int]:
    """The numbers of all marks, in order, as they are written."""
    return [int(number) for match in MARKER.finditer(text) for number in match[1].split(",")]


def derive_citations(answer: str, passages: Sequence[message_pb2.Passage]) -> list[message_pb2.Citation]:
    """A citation for each mark of each sentence; marks that name no passage give none.

    A quote is the passage's sentence that shares most words with the statement, unchanged, with its place in
    the document.
    """
    citations: list[message_pb2.Citation] = []
    for span in sentences(answer):
        statement = answer[span.start : span.end]
        citations.extend(
            _cite(statement, span, number, passages[number - 1])
            for number in dict.fromkeys(marked_numbers(statement))
            if 1 <= number <= len(passages)
        )
    return citations


def _cite(statement: str, span: Span, number: int, passage: message_pb2.Passage) -> message_pb2.Citation:
    quote = _best_sentence(statement, passage.text)
    return message_pb2.Citation(
        document_id=passage.document_id,
        chunk_id=passage.chunk_id,
        title=passage.title,
        quote=passage.text[quote.start : quote.end],
        start_char=passage.start_char + quote.start,
        end_char=passage.start_char + quote.end,
        score=passage.score,
        answer_start_char=span.start,
        answer_end_char=span.end,
        index=number,
        collection=passage.collection,
        source=passage.source,
    )


def _best_sentence(statement: str, text: str) -> Span:
    wanted = {word.stem for word in words(without_markers(statement))}

    def likeness(span: Span) -> float:
        found = {word.stem for word in words(text[span.start : span.end])}
        # Dice: a long sentence must not win by its length alone.
        return 2 * len(wanted & found) / max(1, len(wanted) + len(found))

    return max(sentences(text) or [Span(0, len(text))], key=likeness)
