"""Other words for a question whose first words found too little."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from quartet.common.v1 import message_pb2
from services.orchestrator.domain.decomposition import decompose
from services.orchestrator.domain.words import (
    content_words,
    entities,
    singular,
    split_compound,
    stem,
    stems,
    windows,
    words_of,
)

MAX_FEEDBACK_WORDS = 4
"""Words taken over from found passages; more of them drown the question (Rocchio feedback, kept small)."""
MAX_WORDS = 200
"""Of a need or a question that queries are made of: embedders read no more, and the work is their square."""


def key_of(query: str) -> str:
    """What makes two queries the same: their words in any order, without case and punctuation."""
    return " ".join(sorted(words_of(query.lower())))


def reformulate(
    need: str, *, used: Collection[str], passages: Sequence[message_pb2.Passage] = (), question: str = ""
) -> str | None:
    """The next query for a need that differs from every one in `used` (by key), or None when there is none.

    Args:
        need: The sub-question as it was first asked.
        used: Keys of the queries that were done.
        passages: The best that was found for it so far, though too little.
        question: The whole question that the need is part of.
    """
    for query in _ladder(need, passages, question):
        if (key := key_of(query)) and key not in used:
            return query
    return None


def _ladder(need: str, passages: Sequence[message_pb2.Passage], question: str) -> Iterator[str]:
    """From close to the need to far from it: each rung gives up more of its wording."""
    words = content_words(need)[:MAX_WORDS]
    names = entities(need)[:MAX_WORDS]
    yield " ".join(words)
    yield " ".join(names)
    yield _simplified(words)
    yield _with_found_words(words, passages)
    yield " ".join(dict.fromkeys([*words, *content_words(question)[:MAX_WORDS]]))
    yield _uncovered(words, passages)
    for part in decompose(need):
        yield " ".join(content_words(part))
    for name in names:
        rest = [word for word in words if word not in words_of(name)]
        yield " ".join([name, *rest[-1:]])
    for size in (3, 2, 1):
        if size < len(words):
            yield from sorted(windows(words, size), key=len, reverse=True)
    yield from names


def _simplified(words: list[str]) -> str:
    """Compounds taken apart and plurals undone, so that `data-centres` also meets `data centre`."""
    return " ".join(singular(part) for word in words for part in split_compound(word) or [word])


def _with_found_words(words: list[str], passages: Sequence[message_pb2.Passage]) -> str:
    """The need with the commonest words of what was found: they are in the collection's own language."""
    known = {stem(word) for word in words}
    counts = Counter(
        word.lower()
        for passage in passages
        for word in content_words(passage.text)
        if stem(word) not in known
    )
    found = [word for word, _ in counts.most_common(MAX_FEEDBACK_WORDS)]
    return " ".join([*words, *found]) if found else ""


def _uncovered(words: list[str], passages: Sequence[message_pb2.Passage]) -> str:
    covered = stems(passage.text for passage in passages)
    missing = [word for word in words if stem(word) not in covered]
    return " ".join(missing) if 0 < len(missing) < len(words) else ""
