"""Citations of an answer whose statements are marked with the numbers of passages."""

import re
from collections.abc import Iterator, Sequence

from quartet.common.v1 import message_pb2
from services.orchestrator.domain.words import content_words, stem, stems

_SENTENCE = re.compile(r"\S[^\n]*?(?:[.!?]+[\"'\u201d\u2019)]*(?:\s*\[\d+\])*(?=\s|$)|(?=\n|$))")
_MARKER = re.compile(r"\[(\d+(?:\s*,\s*\d+)*)\]")
MAX_QUOTE_CHARS = 600


def cite(text: str, passages: Sequence[message_pb2.Passage]) -> list[message_pb2.Citation]:
    """A citation for each marker `[n]` of a text that names a passage, counted from 1.

    The quote is the passage's sentence nearest in words to the marked one, with its place in the document.
    Numbers that name no passage are left alone. Offsets count code points.
    """
    citations: list[message_pb2.Citation] = []
    for start, end, sentence in sentences(text):
        for marker in _MARKER.finditer(sentence):
            citations.extend(
                _citation(passages[number - 1], number, sentence, start, end)
                for number in map(int, marker[1].split(","))
                if 1 <= number <= len(passages)
            )
    return citations


def sentences(text: str) -> Iterator[tuple[int, int, str]]:
    """The sentences of a text with their places."""
    for match in _SENTENCE.finditer(text):
        yield match.start(), match.end(), match[0]


def _citation(
    passage: message_pb2.Passage, number: int, sentence: str, start: int, end: int
) -> message_pb2.Citation:
    offset, quote = _nearest_sentence(passage.text, sentence)
    return message_pb2.Citation(
        document_id=passage.document_id,
        chunk_id=passage.chunk_id,
        title=passage.title,
        quote=quote,
        start_char=passage.start_char + offset,
        end_char=passage.start_char + offset + len(quote),
        score=passage.score,
        answer_start_char=start,
        answer_end_char=end,
        index=number,
        collection=passage.collection,
        source=passage.source,
    )


def _nearest_sentence(text: str, statement: str) -> tuple[int, str]:
    wanted = {stem(word) for word in content_words(_MARKER.sub("", statement))}
    best, most = (0, text[:MAX_QUOTE_CHARS]), 0
    for start, _, sentence in sentences(text):
        shared = len(wanted & stems(sentence))
        if shared > most:
            best, most = (start, sentence[:MAX_QUOTE_CHARS]), shared
    return best
