"""A question taken apart into the questions that have to be answered on the way to it."""

import re

from services.orchestrator.domain.words import content_words, entities, words_of

MAX_PARTS = 6
MAX_CHARS = 2_000
"""Of a question that is taken apart: how long the patterns take grows with the square of its length."""
MIN_CONTENT_WORDS = 2
"""A part with fewer says too little to be looked for alone, unless it names something."""

_NAME = r"[A-Z\"'\u201c\u2018][\w.&'\u2019-]*(?:\s+(?:of\s+|the\s+)?[A-Z0-9][\w.&'\u2019-]*)*"
_SENTENCE = re.compile(r"(?<=[?!])\s+|(?<=[a-z]{3}[.;])\s+(?=[A-Z\"'\u201c\u2018(0-9])")
_CLAUSE = re.compile(
    r",?\s+(?:and|but|while|whereas|as well as)\s+"
    r"(?=(?:(?:in|at|for|from|to|of|on|by)\s+)?(?:what|who|whom|whose|when|where|which|how|why|is|are|was|were"
    r"|do|does|did|has|have|had|can|could|should|would|will)\b)",
    re.IGNORECASE,
)
_PAIR = re.compile(
    rf"(?P<left>{_NAME}(?:,\s+{_NAME})*),?\s+(?P<joint>and|or|than|versus|vs\.?|with|to)\s+(?:the\s+)?(?P<right>{_NAME})"
)
_COMPARING = re.compile(
    r"\b(?:compare|compared|comparison|difference|differences|differ|versus|vs|both|either|than|older|younger"
    r"|same|more|less|fewer|larger|smaller|better|which of)\b",
    re.IGNORECASE,
)
_SIDES = re.compile(
    r"\b(?:compare|(?:the )?differences? between)\s+(?P<left>[^,?]{2,80}?)\s+(?:and|with|to|versus)\s+"
    r"(?P<right>[^,?.]{2,80})",
    re.IGNORECASE,
)
_PRONOUN = re.compile(r"\b(?:it|its|they|their|them|he|his|she|her|these|those|each)\b", re.IGNORECASE)
_SAYING = "".join(
    f"(?<!{verb})" for verb in ("suggest", "claim", "report", "say", "state", "indicate", "imply", " and")
)
_RELATIVE = re.compile(
    rf"\b(?:the|a|an|each of the|all|every)\s+(?P<head>[\w'-]+(?:\s[\w'-]+){{0,5}}?){_SAYING},?\s+"
    r"(?P<link>that|which|who|whose|where)\s+(?P<rest>[^,?]{4,160})",
    re.IGNORECASE,
)
_OPENING = re.compile(r"^(?:and|but|then|also|so|please|can you|could you|tell me)\b[\s,:]*", re.IGNORECASE)


def decompose(question: str) -> list[str]:
    """The sub-questions of a question, 1 to MAX_PARTS, in the order in which they are best answered.

    Sentences and joined clauses come apart, two things compared are asked for one by one, and what a relative
    clause describes is asked for before the question that stands on it. A part that says `it` is given the
    words of the part before. A simple question comes back alone, and so does one longer than MAX_CHARS.
    """
    if len(question) > MAX_CHARS:
        return [question.strip()]
    parts: list[str] = []
    before = ""
    for sentence in _whole_or_split(question.strip(), _SENTENCE):
        for clause in _clauses(sentence):
            whole = _with_subject(clause, before)
            parts.extend(_sides(whole) or _pair(whole) or _relative(whole) or [whole])
            before = clause
    telling = [part for part in _distinct(parts) if content_words(part)]
    return telling[:MAX_PARTS] or [question.strip()]


def _clauses(sentence: str) -> list[str]:
    return [_OPENING.sub("", part).strip(" ,") for part in _whole_or_split(sentence, _CLAUSE)]


def _whole_or_split(text: str, border: re.Pattern[str]) -> list[str]:
    """The pieces between borders when each can stand alone, else the text as it is."""
    pieces = border.split(text)
    return pieces if all(_says_something(piece) for piece in pieces) else [text]


def _with_subject(clause: str, before: str) -> str:
    """A clause that stands alone although it says `its`: the words that it may mean follow in brackets."""
    if not before or not _PRONOUN.search(clause):
        return clause
    return f"{clause} ({' '.join(content_words(before))})"


def _sides(clause: str) -> list[str]:
    """`Compare A and B` asks for A and for B."""
    match = _SIDES.search(clause)
    return [match["left"].strip(), match["right"].strip()] if match else []


def _pair(clause: str) -> list[str]:
    """`Is A older than B?` becomes the clause about A and the clause about B; lists too."""
    match = _PAIR.search(clause)
    if match is None or not (_COMPARING.search(clause) or match["joint"] in {"and", "or"}):
        return []
    if match["joint"] in {"with", "to"} and not re.search(r"\bcompar|\bdiffer", clause, re.IGNORECASE):
        return []
    before, after = clause[: match.start()], clause[match.end() :]
    names = [*re.split(r",\s+", match["left"]), match["right"]]
    sides = [f"{before}{name.strip()}{after}".strip() for name in names]
    if not any(content_words(before + after)):
        return []
    return [_without_comparing(side) for side in sides]


def _without_comparing(text: str) -> str:
    bare = re.sub(
        r"\b(?:compare|both|either|versus|vs\.?|the difference between)\b\s*", "", text, flags=re.IGNORECASE
    )
    return re.sub(r"\s+", " ", bare).strip()


def _relative(clause: str) -> list[str]:
    """`the language of the country that uses X` asks first for `country that uses X`."""
    match = _RELATIVE.search(clause)
    if match is None:
        return []
    head = re.sub(r"^.*\b(?:in|of|by|for|from|at)\s+(?:the\s+)?", "", match["head"], flags=re.IGNORECASE)
    inner = f"{head} {match['link']} {match['rest']}".strip()
    if len(content_words(inner)) < MIN_CONTENT_WORDS or len(words_of(inner)) >= len(words_of(clause)) - 1:
        return []
    return [inner, clause]


def _says_something(text: str) -> bool:
    return len(content_words(text)) >= MIN_CONTENT_WORDS or bool(entities(text))


def _distinct(parts: list[str]) -> list[str]:
    return list({" ".join(words_of(part)).lower(): part for part in reversed(parts)}.values())[::-1]
