"""Finds the sentences that answer a question: rare words in common, and nearness in meaning.

The lexical score is BM25 (Robertson and Zaragoza, 2009) with the sentences of the given passages as its
collection. Weights and floors were set with `bench/extractive.py` on its development data.
"""

import math
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from services.router.adapters.extractive.sentences import Sentence, split_sentences
from services.router.adapters.extractive.terms import read_terms

K1 = 1.2
B = 0.4
"""BM25's saturation and length normalisation; sentences differ less in length than documents do."""
LEXICAL_WEIGHT = 0.45
PASSAGE_WEIGHT = 0.3
"""What the best of a passage's other sentences, and its title, count for a sentence."""
FLOOR = 0.42
"""Least score of a sentence that is taken for an answer."""
FOLLOWER_SHARE = 0.9
"""Least share of the best score that a further sentence must have."""
MAX_PICKS = 3
MAX_SENTENCES = 400
"""Sentences that are looked at, in the order of the passages."""
MAX_EMBEDDED = 32
"""Sentences whose meaning is looked at, those with the best words first."""

Embed = Callable[[Sequence[str]], Awaitable[Sequence[float] | None]]
"""Similarities of the first text to each other one, or None when they cannot be had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """A sentence that answers; `passage` counts from 0, `score` is 0 to about 1."""

    passage: int
    sentence: Sentence
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A passage to choose from."""

    title: str
    text: str


async def select_sentences(question: str, sources: Sequence[Source], embed: Embed) -> list[Pick]:
    """At most MAX_PICKS sentences that answer, in the order of the passages.

    None when no score reaches FLOOR.
    """
    found = [
        (number, sentence)
        for number, source in enumerate(sources)
        for sentence in split_sentences(source.text)
    ][:MAX_SENTENCES]
    if not found:
        return []
    lexical = score_words(question, [sentence.text for _, sentence in found])
    embedded = sorted(range(len(found)), key=lambda place: -lexical[place])[:MAX_EMBEDDED]
    similarities = await embed([question, *(found[place][1].text for place in embedded)])
    scores = list(lexical)
    if similarities is not None:
        meaning = dict(zip(embedded, similarities, strict=True))
        scores = [
            LEXICAL_WEIGHT * score + (1 - LEXICAL_WEIGHT) * meaning.get(place, 0.0)
            for place, score in enumerate(lexical)
        ]
    numbers = [number for number, _ in found]
    scores = _support(scores, numbers, score_words(question, [source.title for source in sources]))
    return _pick(found, scores)


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
        gained = sum(
            rarity[term] * count[term] * (K1 + 1) / (count[term] + norm) for term in asked & count.keys()
        )
        scores.append(min(1.0, gained / best))
    return scores


def _support(scores: Sequence[float], numbers: Sequence[int], titles: Sequence[float]) -> list[float]:
    """Raises the sentences of passages that answer elsewhere, too, or whose title names the subject."""
    best: dict[int, float] = {}
    for number, score in zip(numbers, scores, strict=True):
        best[number] = max(score, best.get(number, 0.0))
    support = {number: max(score, titles[number]) for number, score in best.items()}
    return [
        (1 - PASSAGE_WEIGHT) * score + PASSAGE_WEIGHT * support[number]
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
