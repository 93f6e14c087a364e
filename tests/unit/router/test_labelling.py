import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.domain.labelling import Labelling

LABELLING = Labelling(
    model="m", labels=(("simple_faq", "short questions"), ("complex", "")), below=0.6, max_chars=20
)


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("complex", "complex"),
        ("  Simple_FAQ.\n", "simple_faq"),
        ("`complex`", "complex"),
        ('"complex"', "complex"),
        ("**complex**", "complex"),
        ("", ""),
        ("The label is complex", ""),
        ("complex simple_faq", ""),
        ("code_gen", ""),
        ("simple-faq", ""),
    ],
)
def test_an_answer_counts_only_where_it_is_one_label(answer: str, label: str) -> None:
    assert LABELLING.read_label(answer) == label


@given(st.text())
def test_whatever_a_model_says_is_a_label_or_nothing(answer: str) -> None:
    assert LABELLING.read_label(answer) in ("", "simple_faq", "complex")


def test_the_question_names_all_labels_and_has_a_bounded_piece_of_the_message() -> None:
    question = LABELLING.question("a" * 20 + "b" * 10_000)
    assert "- simple_faq: short questions\n- complex\n" in question
    assert f"\n{'a' * 20}\n" in question
    assert len(question) < 500
