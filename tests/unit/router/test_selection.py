from collections.abc import Sequence

import pytest

from services.router.adapters.extractive.selection import Source, score_words, select_sentences
from services.router.adapters.extractive.terms import read_terms

TOWER = Source(
    title="Eiffel Tower",
    text="The Eiffel Tower stands in Paris. It was built in 1889. It is 330 metres tall. Many visit it.",
)
EGGS = Source(title="Eggs", text="Boil the eggs for six minutes. Then rinse them with cold water.")


async def nothing_known(texts: Sequence[str]) -> None:
    return None


def test_stems_join_what_endings_divide() -> None:
    assert read_terms("The visits, visited") == read_terms("a visit while visiting")


def test_rare_words_count_more_than_common_ones() -> None:
    scores = score_words("red fox", ["a red car", "a red fox", "a red hat", "a fox"])
    assert max(scores) == scores[1]
    assert scores[3] > scores[0]


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("How tall is the Eiffel Tower?", "It is 330 metres tall."),
        ("When was the Eiffel Tower built?", "It was built in 1889."),
        ("How long should eggs boil?", "Boil the eggs for six minutes."),
    ],
)
async def test_words_alone_find_a_plain_answer(question: str, answer: str) -> None:
    picks = await select_sentences(question, [EGGS, TOWER], nothing_known)
    assert max(picks, key=lambda pick: pick.score).sentence.text == answer


async def test_meaning_finds_what_words_do_not() -> None:
    async def embed(texts: Sequence[str]) -> list[float]:
        return [0.9 if "rinse" in text else 0.1 for text in texts[1:]]

    picks = await select_sentences("What cools breakfast down?", [TOWER, EGGS], embed)
    assert [pick.sentence.text for pick in picks] == ["Then rinse them with cold water."]
    assert picks[0].passage == 1


async def test_a_question_about_something_else_is_not_answered() -> None:
    assert await select_sentences("Who invented the telephone?", [TOWER, EGGS], nothing_known) == []


async def test_the_same_sentence_in_two_passages_is_quoted_once() -> None:
    picks = await select_sentences("How tall is the Eiffel Tower?", [TOWER, TOWER], nothing_known)
    texts = [pick.sentence.text for pick in picks]
    assert len(texts) == len(set(texts))


async def test_no_passages_give_no_answer() -> None:
    assert await select_sentences("Anything?", [Source(title="", text="")], nothing_known) == []
