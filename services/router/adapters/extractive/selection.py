"""Finds the sentences that answer a question: rare words in common, and nearness in meaning.

The lexical score is BM25 (Robertson and Zaragoza, 2009) with the sentences of the given passages as its
collection. A sentence is read together with its passage's title, since `It` and `the company` stand for what
the title names. Weights and floors were set with `bench/extractive.py` on its development data.
"""

import math
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from services.router.adapters.extractive.sentences import Sentence, split_sentences
from services.router.adapters.extractive.terms import read_terms

K1 = 1.2
B = 0.4
"""BM25's saturation and length normalisation; sentences differ less in length than documents do."""
LEXICAL_WEIGHT = 0.4
SUPPORT_WEIGHT = 0.3
"""What the best sentence of its passage counts for a sentence."""
FIGURE_BONUS = 0.1
"""For a sentence with a figure where the question asks for one."""
FLOOR = 0.38
"""Least score of a sentence that is taken for an answer."""
FOLLOWER_SHARE = 0.85
"""Least share of the best score that a further sentence must have."""
MAX_PICKS = 3
MAX_SENTENCES = 400
"""Sentences that are looked at, in the order of the passages."""
MAX_EMBEDDED = 32
"""Sentences whose meaning is looked at, those with the best words first."""

_ASKS_FOR_FIGURE = re.compile(
    r"\b(?:how (?:many|much|old|tall|long|far|high|deep|big|large|often|fast)|when"
    r"|(?:what|which) (?:year|date|day|percentage|number|age|time|price))\b",
    re.IGNORECASE,
)
_FIGURE = re.compile(
    r"\d|\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|dozen|hundred|thousand|million|billion"
    r"|half|twice)\b",
    re.IGNORECASE,
)

Embed = Callable[[Sequence[str]], Awaitable[Sequence[float] | None]]
"""Similarities of the first text to each other one, or None when they cannot be had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A passage to choose from."""

    title: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """A sentence that answers; `passage` counts from 0, `score` is 0 to about 1."""

    passage: int
    sentence: Sentence
    score: float


async def select_sentences(question: str, sources: Sequence[Source], embed: Embed) -> list[Pick]:
    """At most MAX_PICKS sentences that answer, in the order of the passages; none below FLOOR."""
    found = [
        (number, sentence)
        for number, source in enumerate(sources)
        for sentence in split_sentences(source.text)
    ][:MAX_SENTENCES]
    if not found:
        return []
    texts = [f"{sources[number].title}. {sentence.text}".removeprefix(". ") for number, sentence in found]
    scores = await _blend(question, texts, score_words(question, texts), embed)
    if _ASKS_FOR_FIGURE.search(question):
        scores = [
            score + FIGURE_BONUS * bool(_FIGURE.search(sentence.text))
            for score, (_, sentence) in zip(scores, found, strict=True)
        ]
    return _pick(found, _support(scores, [number for number, _ in found]))


def score_words(question: str, texts: Sequence[str]) -> list[float]:
    """BM25 of each text, as a share of what a text of all the question's words would get."""
    asked = set(read_terms(question))
    counts = [Counter(read_terms(text)) for text in texts]
    lengths = [count.total() for count in counts]
    mean_length = sum(lengths) / len(lengths) or 1.0
    rarity = {}
    for term in asked:
        holding = sum(term in count for count in counts)
        rarity[term] = math.log(1 + (len(counts) - holding + 0.5) / (holding + 0.5))
    best = sum(rarity.values()) or 1.0
    scores = []
    for count, length in zip(counts, lengths, strict=True):
        norm = K1 * (1 - B + B * length / mean_length)
        gained = (
            rarity[term] * count[term] * (K1 + 1) / (count[term] + norm) for term in asked & count.keys()
        )
        scores.append(min(1.0, sum(gained) / best))
    return scores


async def _blend(question: str, texts: Sequence[str], lexical: Sequence[float], embed: Embed) -> list[float]:
    """Words and meaning together; words alone where similarities cannot be had."""
    places = sorted(range(len(texts)), key=lambda place: -lexical[place])[:MAX_EMBEDDED]
    similarities = await embed([question, *(texts[place] for place in places)])
    if similarities is None:
        return list(lexical)
    meaning = dict(zip(places, similarities, strict=True))
    return [
        LEXICAL_WEIGHT * score + (1 - LEXICAL_WEIGHT) * meaning.get(place, 0.0)
        for place, score in enumerate(lexical)
    ]


def _support(scores: Sequence[float], numbers: Sequence[int]) -> list[float]:
    """Raises the sentences of passages that have a good one."""
    best: dict[int, float] = {}
    for number, score in zip(numbers, scores, strict=True):
        best[number] = max(score, best.get(number, score))
    return [
        (1 - SUPPORT_WEIGHT) * score + SUPPORT_WEIGHT * best[number]
        for number, score in zip(numbers, scores, strict=True)
    ]


def _pick(found: Sequence[tuple[int, Sentence]], scores: Sequence[float]) -> list[Pick]:
    order = sorted(range(len(found)), key=lambda place: -scores[place])
    floor = max(FLOOR, FOLLOWER_SHARE * scores[order[0]])
    places: list[int] = []
    seen: set[str] = set()
    for place in order:
        text = found[place][1].text
        if scores[place] < floor or len(places) == MAX_PICKS:
            break
        if text not in seen:
            seen.add(text)
            places.append(place)
    return [
        Pick(passage=found[place][0], sentence=found[place][1], score=scores[place])
        for place in sorted(places)
    ]
