"""Rules recognise what is asked by words, language, length and what the caller says, by their priorities."""

import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property

from services.router.domain.features import Features, split_words


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineHandler:
    """A pipeline, and the collection that it reads; empty for the default one."""

    name: str
    collection: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentHandler:
    """The orchestrator, and the collection that its retrieval reads; empty for the default one."""

    collection: str = ""


Handler = PipelineHandler | AgentHandler | None
"""None stands for a model of the rule's route."""


class Vocabulary:
    """Words and phrases to look for; whole words only, whatever their case.

    Attributes:
        words: One of each entry without which it cannot occur: of a phrase the longest, which few texts have.
    """

    __slots__ = ("_phrases", "_single_words", "words")

    def __init__(self, entries: Sequence[str]) -> None:
        split = [split_words(entry) for entry in entries]
        self._single_words = frozenset(words[0] for words in split if len(words) == 1)
        self._phrases = {_spaced(words): max(words, key=len) for words in split if len(words) > 1}
        self.words = self._single_words.union(self._phrases.values())

    def occurs_in(self, reading: "Reading") -> bool:
        """Whether any of the entries occurs."""
        found = self.words & reading.known_words
        if not found:
            return False
        if not self._single_words.isdisjoint(found):
            return True
        return any(word in found and phrase in reading.spoken for phrase, word in self._phrases.items())


TellLanguage = Callable[[str], str]
"""Gives the ISO 639 code of a text's language; empty where it is not sure."""


class Reading:
    """A prompt as rules read it; words and language are told at most once, and only where a rule asks.

    Args:
        vocabulary: The words that rules look for first.
    """

    def __init__(
        self, features: Features, vocabulary: frozenset[str], tell_language: TellLanguage | None
    ) -> None:
        self.features = features
        self._vocabulary = vocabulary
        self._tell_language = tell_language

    @cached_property
    def known_words(self) -> frozenset[str]:
        """Those of the vocabulary that the last user message has."""
        return self._vocabulary.intersection(self._words)

    @cached_property
    def spoken(self) -> str:
        """All its words in their order, a space around each: ` word ` finds whole words and phrases."""
        return _spaced(self._words)

    @cached_property
    def _words(self) -> list[str]:
        return split_words(self.features.text)

    @cached_property
    def language(self) -> str:
        """Of the last user message; empty where nobody is sure."""
        return self._tell_language(self.features.text) if self._tell_language is not None else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule matches when every condition that it has holds.

    Attributes:
        priority: Of the rules that match, the one with the highest decides.
        route: The route, whose name is the intent.
        handler: A pipeline or the orchestrator instead of a model.
        keywords: Groups of which each must occur, by at least one of its entries.
        excluded: None of these may occur.
        patterns: Regular expressions of which one must be found in the text.
        min_chars: Least length of the text.
        max_chars: Greatest length of the text; None for any.
        has_code: Whether a fenced block is there; None for either.
        has_session: Whether the request belongs to a session; None for either.
        labels: Names that the request must bear, each with one of these values.
        languages: ISO 639 codes, of which the text's language must be one; empty for any.
    """

    name: str
    priority: int
    route: str
    handler: Handler = None
    keywords: tuple[Vocabulary, ...] = ()
    excluded: Vocabulary | None = None
    patterns: tuple[re.Pattern[str], ...] = ()
    min_chars: int = 0
    max_chars: int | None = None
    has_code: bool | None = None
    has_session: bool | None = None
    labels: Mapping[str, Set[str]] = field(default_factory=dict)
    languages: Set[str] = frozenset()

    @property
    def words(self) -> frozenset[str]:
        """Those of its keywords, and of what it excludes."""
        excluded = frozenset[str]() if self.excluded is None else self.excluded.words
        return excluded.union(*(group.words for group in self.keywords))

    def matches(self, reading: Reading) -> bool:
        """Whether the rule recognises the prompt; the cheap conditions are looked at first."""
        features = reading.features
        if features.length_chars < self.min_chars:
            return False
        if self.max_chars is not None and features.length_chars > self.max_chars:
            return False
        if self.has_code is not None and features.has_code is not self.has_code:
            return False
        if self.has_session is not None and features.has_session is not self.has_session:
            return False
        if self.labels and not self._bears_labels(features):
            return False
        for group in self.keywords:
            if not group.occurs_in(reading):
                return False
        if self.excluded is not None and self.excluded.occurs_in(reading):
            return False
        if self.patterns and not any(pattern.search(features.text) for pattern in self.patterns):
            return False
        return not self.languages or reading.language in self.languages

    def _bears_labels(self, features: Features) -> bool:
        return all(features.labels.get(name) in values for name, values in self.labels.items())


def _spaced(words: Sequence[str]) -> str:
    return f" {' '.join(words)} "


class RuleConflictError(ValueError):
    """Two rules of one priority match the same test prompt."""


class RuleSet:
    """Rules from the highest priority down; made once, read by every decision.

    Args:
        tell_language: Needed where a rule names languages.
    """

    def __init__(self, rules: Sequence[Rule], tell_language: TellLanguage | None = None) -> None:
        self._tell_language = tell_language
        self._rules = tuple(sorted(rules, key=lambda rule: -rule.priority))
        self._vocabulary = frozenset[str]().union(*(rule.words for rule in rules))

    def decide(self, features: Features, *, models_only: bool) -> Rule | None:
        """The first rule that matches, or None.

        `models_only` passes over those with a handler of their own.
        """
        reading = Reading(features, self._vocabulary, self._tell_language)
        for rule in self._rules:
            if not (models_only and rule.handler is not None) and rule.matches(reading):
                return rule
        return None

    def check(self, features: Features) -> None:
        """Raises RuleConflictError when two rules of the same priority match.

        Neither could be told to come first.
        """
        reading = Reading(features, self._vocabulary, self._tell_language)
        seen: dict[int, Rule] = {}
        for rule in self._rules:
            if rule.matches(reading):
                other = seen.setdefault(rule.priority, rule)
                if other is not rule:
                    raise RuleConflictError(
                        f"the rules {other.name!r} and {rule.name!r} of priority {rule.priority} both match: "
                        "give one of them another priority"
                    )
