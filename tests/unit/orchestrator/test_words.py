import pytest

from services.orchestrator.domain.words import content_words, entities, split_compound, stem


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("When was the Aldermoor Bridge opened in 1932?", ["Aldermoor Bridge", "1932"]),
        ("Who wrote 'The Long Night' and \"Dust\"?", ["The Long Night", "Dust"]),
        ("Is the Bank of England older than Ada Lovelace's house?", ["Bank of England", "Ada Lovelace"]),
        ("what is a bridge", []),
        ("what is \u00bb::\u00bb", []),
    ],
)
def test_names_and_numbers_are_found(text: str, names: list[str]) -> None:
    assert sorted(entities(text)) == sorted(names)


def test_function_words_and_repetitions_say_nothing() -> None:
    assert content_words("What are the studies that the study of bridges was about?") == [
        "studies",
        "bridges",
    ]


@pytest.mark.parametrize(
    "words", [("study", "studies", "studied"), ("bridge", "bridges"), ("open", "opened", "opening")]
)
def test_forms_of_a_word_meet(words: tuple[str, ...]) -> None:
    assert len({stem(word) for word in words}) == 1


def test_compounds_come_apart() -> None:
    assert split_compound("data-centre") == ["data", "centre"]
    assert split_compound("dataCentre") == ["data", "Centre"]
    assert split_compound("data") == []
