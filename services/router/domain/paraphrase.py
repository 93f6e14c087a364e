"""Whether two questions surely ask the same: the guard of the semantic cache.

Vectors of "enable 2FA" and "disable 2FA" are closer than those of most paraphrases, so closeness alone proves
nothing. Two questions pass only when they are of one kind and have the same words in the same order, but for
articles, politeness, contractions and a few words known to be harmless or to mean the same. So numbers,
negations, names, tenses and directions must all agree. What cannot be told is taken for different: a missed
hit costs a call, a false one a wrong answer.
"""

import re

MAX_CHARS = 600
"""Longer questions are never taken for each other."""

_TOKENS = re.compile(r"[^\W_]+(?:[.,][0-9]+)*|[-+*/%$€£¥<>=#@&^~|\\]")
_PLAIN = (
    (re.compile(r"\b(can|won|shan)['\u2019]t\b"), r"\1 not"),
    (re.compile(r"n['\u2019]t\b"), " not"),
    (re.compile(r"\bcannot\b"), "can not"),
    (re.compile(r"['\u2019](?:s|re|m)\b"), " is"),
    (re.compile(r"['\u2019]ll\b"), " will"),
    (re.compile(r"['\u2019]ve\b"), " have"),
    (re.compile(r"['\u2019]d\b"), " would"),
    (re.compile(r"\b2[- ]?fa\b|\btwo[- ]factor(?: authentication)?\b"), "mfa2"),
    (re.compile(r"\bturn(?:ing)? on\b|\bswitch(?:ing)? on\b"), "enable"),
    (re.compile(r"\bturn(?:ing)? off\b|\bswitch(?:ing)? off\b"), "disable"),
    (re.compile(r"\bset(?:ting)? up\b"), "setup"),
    (re.compile(r"\be-mail\b"), "email"),
)
_POLITE = re.compile(
    r"^(?:(?:please|kindly|hi|hello|hey|ok|okay|so|and|thanks)\b[\s,!.]*)*"
    r"(?:(?:can|could|would|will) (?:you|someone|anyone)(?: please)?"
    r"(?: (?:tell|show|explain to|help) me(?: understand)?)?"
    r"|do you know|i (?:want|need|would like) to know|let me know|tell me|show me)?[\s,:]*"
)
_MANNER = re.compile(
    r"\bhow (?:do|does|can|could|to|would|should|might|is it possible)\b"
    r"|\bwhat (?:is|are) the (?:ways?|steps|procedure|process|method) (?:to|of|for)\b"
    r"|\bsteps (?:to|for)\b"
)
_NAMED = re.compile(r"\b[A-Z]{2,}\b|(?<=\s)[A-HJ-Z]\b|(?<![^\W_])[\"'\u2018\u201c][^\W_]+[\"'\u2019\u201d]")
"""Acronyms, single capitals and quoted words: "IT" is not "it", and "vitamin A" not "a vitamin"."""
_INTERROGATIVES = frozenset(("what", "which", "who", "whom", "whose", "when", "where", "why", "how"))

_HARMLESS = frozenset(
    ("a", "an", "the", "i", "we", "is", "are", "am", "be", "been", "being", "do", "does", "of", "for", "just")
)
"""Words whose presence changes no answer, where kinds and other words are the same."""
_OF_MANNER = frozenset(
    ("to", "can", "could", "would", "might", "way", "ways", "steps", "procedure", "process", "method")
)
"""The same in questions of how something is done."""
_SAME = {
    word: words.split()[0]
    for words in (
        "delete remove erase",
        "buy purchase",
        "begin start",
        "fix repair",
        "picture image photo",
        "colour color",
        "setup configure",
        "enable activate",
        "disable deactivate",
        "signin login",
        "vs versus",
        "not never no",
        "without sans",
        "u you",
    )
    for word in words.split()
}


def is_paraphrase(one: str, other: str) -> bool:
    """Whether both surely ask the same; symmetric, and true of equal texts that have words."""
    if max(len(one), len(other)) > MAX_CHARS:
        return False
    essence = _essence(one)
    return bool(essence[1]) and essence == _essence(other)


def _essence(text: str) -> tuple[str, list[str]]:
    """The kind of a question, and the words that must be the same in another, in their order."""
    named = _NAMED.findall(text) if not text.isupper() else []
    text = " ".join(text.lower().split())
    for pattern, plain in _PLAIN:
        text = pattern.sub(plain, text)
    text = _POLITE.sub("", text)
    is_manner = _MANNER.search(text) is not None
    words = [_SAME.get(word, word) for word in _TOKENS.findall(text)]
    kind = "manner" if is_manner else next((word for word in words[:3] if word in _INTERROGATIVES), "")
    harmless = _HARMLESS | _INTERROGATIVES | (_OF_MANNER if is_manner else frozenset())
    # An article at the end is spoken of, not used.
    last = words[-1:] if words[-1:] in (["a"], ["an"], ["the"]) else []
    kept = [word for word in words if word not in harmless] + last
    return kind, kept + named
