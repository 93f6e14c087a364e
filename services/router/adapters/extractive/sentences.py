"""Splits text into sentences without changing it: each is a span of the text, to be quoted exactly."""

import re
from dataclasses import dataclass

MAX_SENTENCE_CHARS = 1_000
"""Longer runs without an end are cut at a space: tables and listings have no full stops."""

_END = re.compile(
    r"""[.!?\u2026]+["'\u201d\u2019)\]]*(?=\s+)"""  # Western sentences, with what closes after their end
    r"|[\u3002\uff01\uff1f]"  # Chinese and Japanese ones
    r"|\n[ \t]*\n+"  # paragraphs
    r"|\n(?=[ \t]*(?:[-*\u2022#|]|\d{1,2}[.)])\s)"  # points of a list, rows, headings
)
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:mr|mrs|ms|dr|prof|sr|jr|st|vs|etc|e\.g|i\.e|cf|approx|no|nos|vol|fig|al|inc|ltd|co|corp|"
    r"dept|est|gen|gov|lt|col|sgt|capt|rev|hon|pres|lit|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|ca|c|pp|p|ed|eds|"
    r"[a-z]|(?:[a-z]\.)+[a-z])\.$",
    re.IGNORECASE,
)
_ABBREVIATION_WINDOW = 12
_NEXT = re.compile(r"\S")
_MARKUP = re.compile(r"\s*(?:[-*\u2022#>|]+|\d{1,2}[.)])\s+")


@dataclass(frozen=True, slots=True)
class Sentence:
    """A span of a text: characters `start` to `end`, counted from 0 in code points."""

    text: str
    start: int
    end: int


def split_sentences(text: str) -> list[Sentence]:
    """The sentences in order, without the white space and list marks around them."""
    sentences: list[Sentence] = []
    start = 0
    for match in _END.finditer(text):
        if _is_inside(text, start, match):
            continue
        _add(sentences, text, start, match.end())
        start = match.end()
    _add(sentences, text, start, len(text))
    return sentences


def _is_inside(text: str, start: int, match: re.Match[str]) -> bool:
    """Whether a full stop only ends an abbreviation, or the sentence goes on in lower case after it."""
    if not match[0].startswith("."):
        return False
    following = _NEXT.search(text, match.end())
    if following is not None and following[0].islower():
        return True
    return (
        _ABBREVIATION.search(text[max(start, match.end() - _ABBREVIATION_WINDOW) : match.end()]) is not None
    )


def _add(sentences: list[Sentence], text: str, start: int, end: int) -> None:
    while end - start > MAX_SENTENCE_CHARS:
        cut = text.rfind(" ", start + 1, start + MAX_SENTENCE_CHARS)
        cut = cut if cut > start else start + MAX_SENTENCE_CHARS
        _add(sentences, text, start, cut)
        start = cut
    mark = _MARKUP.match(text, start, end)
    if mark:
        start = mark.end()
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    if start < end:
        sentences.append(Sentence(text[start:end], start, end))
