"""What a question is about: its content words, its names and its numbers, without a language model."""

import re
from collections.abc import Iterable
from itertools import pairwise

_STOP_WORDS_TEXT = """
a about above after again all also am an and any are as at be because been before being between both but
by called can compare could define describe did difference differences discuss do does doing done down
during each either else ever every explain few find for from further get gets give given go had has have
having he her here hers him his how i if in into is it its itself just kind kindly know let like list made
make makes many may maybe me might more most much must my name no nor not of off on once one only or other
our ours out over own per perhaps please possibly rather same shall she should show so some such summarise
summarize take taken takes tell than that the their theirs them then there these they thing things this
those through to too took under until up upon us use used uses using very was we were what when where
whether which while who whom whose why will with within without would you your yours
"""
STOP_WORDS = frozenset(_STOP_WORDS_TEXT.split())
"""English function words and the words of asking; they say nothing of what is looked for."""

_WORD = re.compile(r"[^\W_]+(?:[-'\u2019.][^\W_]+)*")
_QUOTED = re.compile(
    r"[\"\u201c\u201d«»]([^\"\u201c\u201d«»]{2,80})[\"\u201c\u201d«»]|(?<!\w)['\u2018]([^'\u2018\u2019]{2,80})['\u2019](?!\w)"
)
_JOINING = frozenset({"of", "the", "de", "la", "von", "van", "der"})
_SUFFIXES = (
    "ations",
    "ation",
    "ingly",
    "ments",
    "ment",
    "ness",
    "ities",
    "ity",
    "ing",
    "ies",
    "ied",
    "edly",
    "ed",
)
_PLURALS = ("sses", "es", "s")
MIN_STEM_CHARS = 3


def words_of(text: str) -> list[str]:
    """The words of a text as written, punctuation left out."""
    return _WORD.findall(text)


def content_words(text: str) -> list[str]:
    """The words that say what a text is about, in order, each once by its stem."""
    seen: dict[str, str] = {}
    for word in words_of(text):
        bare = word.lower().removesuffix("'s").removesuffix("\u2019s")
        if bare not in STOP_WORDS and (len(bare) > 1 or bare.isdigit()):
            seen.setdefault(stem(bare), word.removesuffix("'s").removesuffix("\u2019s"))
    return list(seen.values())


def stem(word: str) -> str:
    """A word without its common English endings, lower-case: `Studies` and `study` meet at `stud`.

    Cruder than Porter's algorithm on purpose: it only has to make a question's words meet a passage's.
    """
    bare = word.lower().removesuffix("'s").removesuffix("\u2019s")
    for suffix in (*_SUFFIXES, *_PLURALS):
        if bare.endswith(suffix) and len(bare) - len(suffix) >= MIN_STEM_CHARS and not bare.endswith("ss"):
            bare = bare.removesuffix(suffix)
            break
    else:
        bare = bare[:-1] if len(bare) > MIN_STEM_CHARS and bare[-1] in "ey" else bare
    return bare


def stems(texts: str | Iterable[str]) -> frozenset[str]:
    """The stems of all words; parts of hyphenated words count too."""
    joined = texts if isinstance(texts, str) else " ".join(texts)
    found = set()
    for word in words_of(joined):
        found.add(stem(word))
        found.update(stem(part) for part in re.split(r"[-'\u2019.]", word) if part)
    return frozenset(found)


def entities(text: str) -> list[str]:
    """The names in a text: what stands in quotes, runs of capitalised words, numbers; each once, in order.

    A capital at the start of a sentence counts only where the word is no function word.
    """
    found: dict[str, None] = {}
    for match in _QUOTED.finditer(text):
        quoted = (match[1] or match[2]).strip(" ,.?!")
        if words_of(quoted):
            found.setdefault(quoted)
    rest = _QUOTED.sub(" , ", text)
    run: list[str] = []
    last_end = 0
    for match in _WORD.finditer(rest):
        word = match[0]
        if run and rest[last_end : match.start()].strip(" "):
            _close(run, found)
        if word[0].isupper() and not (word.lower() in STOP_WORDS and not run):
            run.append(word.removesuffix("'s").removesuffix("\u2019s"))
        elif run and word.lower() in _JOINING:
            run.append(word)
        else:
            _close(run, found)
            if word[0].isdigit():
                found.setdefault(word)
        last_end = match.end()
    _close(run, found)
    return list(found)


def singular(word: str) -> str:
    """A word without its plural's ending, still a word: `Studies` becomes `Study`."""
    if word.endswith("ies") and len(word) > MIN_STEM_CHARS + 1:
        return f"{word[:-3]}y"
    return (
        word[:-1] if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3 else word
    )


def split_compound(word: str) -> list[str]:
    """The parts of a word joined by hyphens, dots or camel case; empty when it is simple."""
    parts = re.split(r"[-.]|(?<=[a-z])(?=[A-Z])", word)
    return [part for part in parts if part] if len(parts) > 1 else []


def windows(words: list[str], size: int) -> list[str]:
    """Each run of `size` neighbouring words, as a text."""
    if size == 2:
        return [" ".join(pair) for pair in pairwise(words)]
    return [" ".join(words[start : start + size]) for start in range(len(words) - size + 1)]


def _close(run: list[str], found: dict[str, None]) -> None:
    while run and run[-1].lower() in _JOINING:
        run.pop()
    if run and not all(word.lower() in STOP_WORDS for word in run):
        found.setdefault(" ".join(run))
    run.clear()
