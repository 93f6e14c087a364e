import pytest

from services.orchestrator.domain.decomposition import MAX_CHARS, MAX_PARTS, decompose


@pytest.mark.parametrize(
    ("question", "parts"),
    [
        ("When was the bridge over the Tarn opened?", ["When was the bridge over the Tarn opened?"]),
        (
            "Which was opened first, the Aldermoor Bridge or the Corvane Bridge?",
            ["Which was opened first, the Aldermoor Bridge?", "Which was opened first, the Corvane Bridge?"],
        ),
        (
            "What are the five highest grossing films of 2023, and who directed each film?",
            [
                "What are the five highest grossing films of 2023",
                "who directed each film? (five highest grossing films 2023)",
            ],
        ),
        (
            "What language is spoken in the country that uses the Jamaican dollar?",
            [
                "country that uses the Jamaican dollar",
                "What language is spoken in the country that uses the Jamaican dollar?",
            ],
        ),
        (
            "What are the largest moons of Mars, Jupiter and Saturn?",
            [
                "What are the largest moons of Mars?",
                "What are the largest moons of Jupiter?",
                "What are the largest moons of Saturn?",
            ],
        ),
        ("Who founded it? Where was it built?", ["Who founded it? Where was it built?"]),
        (
            "Who founded Orrin Steel? Where was the Corvane mill built?",
            ["Who founded Orrin Steel?", "Where was the Corvane mill built?"],
        ),
        ("Compare Milvus and pgvector", ["Milvus", "pgvector"]),
        (
            "What are the 4 rarest elements and in what years were they discovered?",
            ["What are the 4 rarest elements", "in what years were they discovered? (4 rarest elements)"],
        ),
        ("Does the report suggest that prices fell?", ["Does the report suggest that prices fell?"]),
    ],
)
def test_a_question_comes_apart_where_it_asks_for_several_things(question: str, parts: list[str]) -> None:
    assert decompose(question) == parts


def test_the_parts_of_a_long_question_are_bounded() -> None:
    question = " ".join(f"What did the company Number{n} produce in that year?" for n in range(20))
    assert len(decompose(question)) == MAX_PARTS


def test_a_question_without_words_comes_back_as_it_is() -> None:
    assert decompose("  ???  ") == ["???"]


def test_a_question_too_long_to_be_taken_apart_is_asked_whole() -> None:
    question = "Compare Milvus and pgvector. " * (MAX_CHARS // 20)
    assert decompose(question) == [question.strip()]
