"""How sure a step's result is, 0 to 1, told from words, names, numbers and scores; no model is asked."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from quartet.common.v1 import generation_pb2, message_pb2
from services.orchestrator.domain.words import content_words, entities, stem, stems

CONFIDENCE_FLOOR = 0.7
"""Below it a result asks for a new plan."""

SCORE_LOW, SCORE_HIGH = 0.15, 0.55
"""Cosine similarities at which the best passage says nothing, and all, with embedders such as MiniLM."""

MAX_COVERING = 3
"""Passages that may share the need's words: among many, some always hold each."""

WORDS_WEIGHT, NAMES_WEIGHT, NEARNESS_WEIGHT = 0.3, 0.3, 0.4
"""A name that is missing keeps a result below the floor. Found with MiniLM's five best passages on the
questions of XQuAD, ClapNQ and a product's documentation: 91, 76 and 96 % of those with a right passage among
them reach the floor, and 2.5 % of those asked of another subject's documents."""
_ABSTAINS = re.compile(
    r"\b(?:i (?:do not|don't|cannot|can't) (?:know|answer|find|tell|determine)"
    r"|no (?:relevant )?(?:passage|information|answer)s? (?:\w+ ){0,3}(?:found|available|answers?|provided)"
    r"|(?:passages?|context|documents?|sources?) (?:do|does) not (?:say|contain|mention|answer|provide|state)"
    r"|not (?:mentioned|stated|found) in the)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A confidence of 0 to 1, and why, for a person."""

    confidence: float
    because: str

    @property
    def weak(self) -> bool:
        """True when a new plan is asked for."""
        return self.confidence < CONFIDENCE_FLOOR


def judge_retrieval(need: str, passages: Sequence[message_pb2.Passage]) -> Judgement:
    """How well passages answer a need, which is the question first asked, not the query that found them.

    Weighs which share of the need's content words a few passages hold together, which share of its names and
    numbers stands whole in one passage, and the best similarity.
    """
    if not passages:
        return Judgement(confidence=0.0, because="nothing was found")
    wanted = [stem(word) for word in content_words(need)]
    held = [stems((passage.title, passage.text)) for passage in passages]
    covered = _covered_by_few(set(wanted), held) / len(wanted) if wanted else 1.0
    similarity = max(passage.score for passage in passages)
    nearness = min(1.0, max(0.0, (similarity - SCORE_LOW) / (SCORE_HIGH - SCORE_LOW)))
    names = entities(need)
    missing = [name for name in names if not any(stems(name) <= words for words in held)]
    named = 1 - len(missing) / len(names) if names else covered
    confidence = WORDS_WEIGHT * covered + NAMES_WEIGHT * named + NEARNESS_WEIGHT * nearness
    because = f"{covered:.0%} of the words found, best similarity {similarity:.2f}"
    if missing:
        because += f", not named: {', '.join(missing[:3])}"
    return Judgement(confidence=round(confidence, 3), because=because)


def _covered_by_few(wanted: set[str], held: Sequence[frozenset[str]]) -> int:
    """How many of the words MAX_COVERING passages hold together, chosen greedily."""
    left = set(wanted)
    for _ in range(MAX_COVERING):
        left -= max(held, key=lambda words: len(left & words))
    return len(wanted) - len(left)


def judge_answer(question: str, completion: generation_pb2.Completion) -> Judgement:
    """How well an answer rests on what was found: by its citations, and the question's words."""
    text = "".join(part.text for part in completion.message.parts)
    citations = [citation for part in completion.message.parts for citation in part.citations]
    if not text.strip() or completion.finish_reason in {
        generation_pb2.FINISH_REASON_REFUSAL,
        generation_pb2.FINISH_REASON_CONTENT_FILTER,
        generation_pb2.FINISH_REASON_ABORTED,
    }:
        return Judgement(confidence=0.0, because="there is no answer")
    if _ABSTAINS.search(text):
        return Judgement(confidence=0.3, because="the answer says that it does not know")
    wanted = [stem(word) for word in content_words(question)]
    held = stems([text, *(f"{citation.title} {citation.quote}" for citation in citations)])
    covered = sum(word in held for word in wanted) / len(wanted) if wanted else 1.0
    confidence = (0.6 if citations else 0.35) + 0.4 * covered
    because = f"{len(citations)} citations, {covered:.0%} of the question's words"
    return Judgement(confidence=round(min(1.0, confidence), 3), because=because)
