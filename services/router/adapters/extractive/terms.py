"""Words as a search sees them: lower-case stems, without those that carry no meaning of their own."""

import re

_WORD = re.compile(r"\w+")
_STOP_WORDS = frozenset(
    (  # noqa: SIM905 - a list of strings would be three times as long
        "a about after again all am an and any are as at be because been before being below between both but "
        "by can could did do does doing down during each few for from further had has have having he her "
        "here "
        "hers him his how i if in into is it its itself just me more most my no nor not now of off on once "
        "only or other our out over own please same she should so some such tell than that the their them "
        "then there these they this those through to too under until up us very was we were what when where "
        "which while who whom whose why will with would you your"
    ).split()
)
_SUFFIXES = (
    *("ations", "ation", "ments", "ment", "ings", "ing"),
    *("ies", "ied", "ers", "er", "ed", "es", "ly", "s", "e"),
)
_MIN_STEM_CHARS = 3


def read_terms(text: str) -> list[str]:
    """The terms of a text in their order, repeated as often as they occur."""
    return [_stem(word) for word in _WORD.findall(text.lower()) if word not in _STOP_WORDS]


def _stem(word: str) -> str:
    """Cuts the commonest English endings; both sides of a comparison are cut alike, so that is enough."""
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= _MIN_STEM_CHARS:
            return word[: -len(suffix)]
    return word
