"""What the learned models think of a prompt."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol

from services.router.domain.features import Features

MAX_REMEMBERED_TEXTS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """One reading of a text.

    Attributes:
        uplift: Probability that the strong model is right where the weak one is wrong, 0..1.
        intent: The likeliest intent of the shipped routes.
        confidence: Of the intent, 0..1.
        is_known: False for a text unlike all that the intents were learnt from.
    """

    uplift: float
    intent: str
    confidence: float
    is_known: bool


class Judge(Protocol):
    """Judges texts; costs some 50 µs for a long text and calls nobody."""

    def judge(self, text: str) -> Judgement:
        """What it thinks of a text."""
        ...


class Remembering:
    """A judge that knows its latest judgements.

    The turns of a conversation are judged again with each of those that come after, and what the answer cache
    knows has been asked before.

    Args:
        max_texts: The latest, each of at most some 5 KB.
    """

    def __init__(self, judge: Judge, *, max_texts: int = MAX_REMEMBERED_TEXTS) -> None:
        self._judge = lru_cache(max_texts)(judge.judge)

    def judge(self, text: str) -> Judgement:
        """As the judge within."""
        return self._judge(text)


class Judged:
    """A prompt's features, and what the judge thinks of it: asked at most once, and only where it matters.

    Attributes:
        label: The route that a model named; empty where none was asked.
    """

    def __init__(self, features: Features, judge: Judge | None) -> None:
        self.features = features
        self.label = ""
        self._judge = judge

    @cached_property
    def judgement(self) -> Judgement | None:
        """Of the last user message; None without a judge."""
        return None if self._judge is None else self._judge.judge(self.features.text)

    @cached_property
    def uplift(self) -> float | None:
        """The greatest of the last user messages; None for what the judge cannot read: tools and media."""
        if self._judge is None or self.judgement is None or self.features.demands.needs:
            return None
        uplift = self.judgement.uplift
        for text in self.features.earlier:
            uplift = max(uplift, self._judge.judge(text).uplift)
        return uplift
