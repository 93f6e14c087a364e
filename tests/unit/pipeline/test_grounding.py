import pytest

from quartet.common.v1 import message_pb2
from services.pipeline.domain.citations import derive_citations, marked_numbers
from services.pipeline.domain.grounding import support_sentences
from services.pipeline.domain.sentences import sentences

MOON = "The Moon orbits the Earth once in 27 days. Its diameter is 3,474 kilometres."
SUN = "Light from the Sun reaches the Earth in about 8 minutes."


def passage(text: str, start: int = 0) -> message_pb2.Passage:
    return message_pb2.Passage(
        document_id="d", chunk_id="d/0", title="T", text=text, start_char=start, score=0.5, collection="c"
    )


def test_sentences_keep_their_marks_and_stop_at_no_abbreviation() -> None:
    text = "Dr. Smith saw it, e.g. at night. [1] It is 3.5 km wide [2]. Is it? Yes"
    assert [text[span.start : span.end] for span in sentences(text)] == [
        "Dr. Smith saw it, e.g. at night. [1]",
        "It is 3.5 km wide [2].",
        "Is it?",
        "Yes",
    ]


def test_marks_are_read_singly_and_in_lists() -> None:
    assert marked_numbers("a [1], b [2, 3][4] c [x] d [1999]") == [1, 2, 3, 4]


def test_a_citation_quotes_the_sentence_that_says_it_with_its_place_in_the_document() -> None:
    answer = "Light needs 8 minutes [2]. The Moon is 3,474 kilometres across. [1]"
    light, size = derive_citations(answer, [passage(MOON, start=100), passage(SUN, start=500)])
    assert (light.index, light.quote, light.start_char) == (2, SUN, 500)
    assert size.quote == "Its diameter is 3,474 kilometres."
    assert size.start_char == 100 + MOON.index("Its")
    assert size.end_char - size.start_char == len(size.quote)
    assert answer[size.answer_start_char : size.answer_end_char].startswith("The Moon")


def test_a_mark_that_names_no_passage_gives_no_citation() -> None:
    assert derive_citations("It is so [7].", [passage(MOON)]) == []


@pytest.mark.parametrize(
    ("answer", "missing"),
    [
        ("The Moon orbits the Earth in 28 days.", "28"),
        ("The Moon orbits the planet Jupiter in 27 days.", "Jupiter"),
    ],
)
def test_a_number_or_name_that_stands_nowhere_is_found(answer: str, missing: str) -> None:
    (support,) = support_sentences(answer, [MOON], "How long does the Moon take?")
    assert support.missing == missing
    assert support.score < 0.5


def test_what_the_passages_say_is_supported_in_other_forms_of_its_words() -> None:
    answer = "The Moon is orbiting the Earth; one orbit takes 27 days [1]."
    (support,) = support_sentences(answer, [MOON], "How long does an orbit take?")
    assert support.score >= 0.8
    assert not support.missing


def test_invented_statements_are_not_supported() -> None:
    (support,) = support_sentences("Cheese tastes better with old wine.", [MOON, SUN], "What of cheese?")
    assert support.score < 0.4
