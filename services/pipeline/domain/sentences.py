"""Sentences and words, for comparing what is said with what is written."""

import re
from typing import NamedTuple

MARKER = re.compile(r"\[(\d{1,3}(?:\s*,\s*\d{1,3})*)\]")
"""`[1]` or `[1, 2]`: the numbers of passages that support what stands before."""

# A full stop ends a sentence where white space follows it; markers behind it still belong to it.
_END = re.compile(
    r"(?:(?<![ .][A-Z])(?<!\be\.g)(?<!\bi\.e)(?<!\bvs)(?<!\bDr)(?<!\bMr)(?<!\bSt)\.|[!?…])[\"'”\u2019)]*"
    r"(?:\s*\[\d{1,3}(?:\s*,\s*\d{1,3})*\])*(?=\s|$)"
    r"|[\u3002\uff01\uff1f](?:\s*\[\d{1,3}\])*|\n\s*(?=\n|[-*#\d])"
)
_WORD = re.compile(r"\d+(?:[.,:/]\d+)*|[^\W\d_]+(?:['\u2019][^\W\d_]+)*")
# One string, since a hundred quoted words are not read by anybody.
_STOP_WORDS = frozenset(
    """
    a about after all also an and any are as at be because been before being but by can could did do does
    for from had has have he her here his how if in into is it its may might more most must no nor not of on
    or other our out over own she should so some such than that the their them then there these they this
    those through to under up was we were what when where which while who whom why will with would you your
    according passage passages document documents
    """.split()  # noqa: SIM905 - as above
)


class Span(NamedTuple):
    """A part of a text, in code points."""

    start: int
    end: int


class Word(NamedTuple):
    """A word that carries meaning.

    Attributes:
        stem: Lower case, without the endings of English; of a number its digits.
        is_number: True for figures, dates, times.
    """

    stem: str
    is_number: bool


def sentences(text: str) -> list[Span]:
    """The sentences in order, without the white space around them."""
    spans: list[Span] = []
    start = 0
    for match in _END.finditer(text):
        spans.append(Span(start, match.end()))
        start = match.end()
    spans.append(Span(start, len(text)))
    return [trimmed for span in spans if (trimmed := _trim(text, span)).end > trimmed.start]


def words(text: str) -> list[Word]:
    """The words that carry meaning, in order."""
    found: list[Word] = []
    for match in _WORD.finditer(text):
        word = match[0].lower()
        if word[0].isdigit():
            found.append(Word(word.replace(",", ""), True))
        elif word not in _STOP_WORDS:
            found.append(Word(_stem(word), False))
    return found


def without_markers(text: str) -> str:
    """The text as it reads without `[1]`."""
    return MARKER.sub("", text)


def _stem(word: str) -> str:
    word = word.removesuffix("'s").removesuffix("\u2019s")
    for ending in ("ingly", "edly", "ing", "ies", "ied", "ed", "es", "ly", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            break
    return word.rstrip("ey") if len(word) > 3 else word


def _trim(text: str, span: Span) -> Span:
    piece = text[span.start : span.end]
    start = span.start + len(piece) - len(piece.lstrip())
    return Span(start, max(start, span.end - len(piece) + len(piece.rstrip())))
