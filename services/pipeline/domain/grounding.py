"""How far an answer's sentences are borne out by its passages, by their words, numbers and names."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from services.pipeline.domain.sentences import sentences, without_markers, words

MISSING_NAME_FACTOR = 0.5
"""What a name that stands in no passage leaves of a sentence's support."""

_LIST_MARK = re.compile(r"^\s*(?:\d{1,3}[.)]|[-*•])(?:\s+|$)")
_NAME = re.compile(r"(?<=[^\W\d_,;] )[A-Z][^\W\d_]{2,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Support:
    """A sentence of an answer and how far the passages bear it out.

    Attributes:
        score: Share of its words that its best passage holds, 0 to 1; 0 when a number stands nowhere.
        missing: A number or name that no passage holds; empty when all do.
    """

    sentence: str
    score: float
    missing: str = ""


def support_sentences(answer: str, passages: Sequence[str], question: str) -> list[Support]:
    """Every sentence that says something, with its support.

    Words of the question count as given. This sees invented facts, numbers and names; it does not see a
    negation, or true words put together wrongly.
    """
    given = {word.stem for word in words(question)}
    stores = [{word.stem for word in words(passage)} | given for passage in passages]
    everything: set[str] = set(given).union(*stores)
    supports: list[Support] = []
    for span in sentences(answer):
        sentence = _LIST_MARK.sub("", without_markers(answer[span.start : span.end])).strip()
        said = words(sentence)
        if not said:
            continue
        number = next((word.stem for word in said if word.is_number and word.stem not in everything), "")
        name = next((name for name in _NAME.findall(sentence) if _is_missing(name, everything)), "")
        score = max((sum(word.stem in store for word in said) / len(said) for store in stores), default=0.0)
        if number:
            score = 0.0
        elif name:
            score *= MISSING_NAME_FACTOR
        supports.append(Support(sentence=sentence, score=score, missing=number or name))
    return supports


def _is_missing(name: str, everything: set[str]) -> bool:
    return any(word.stem not in everything for word in words(name))
