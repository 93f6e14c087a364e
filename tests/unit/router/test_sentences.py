from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.adapters.extractive.sentences import MAX_SENTENCE_CHARS, split_sentences


@given(st.text(alphabet=st.sampled_from("aB.?! \n-1)\u3002'\""), max_size=300))
def test_every_sentence_is_an_exact_span_and_no_word_is_lost(text: str) -> None:
    sentences = split_sentences(text)
    assert all(text[one.start : one.end] == one.text for one in sentences)
    assert all(left.end <= right.start for left, right in pairwise(sentences))
    assert sum(map(str.isalpha, text)) == sum(sum(map(str.isalpha, one.text)) for one in sentences)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("It is 3.5 m long. Dr. Smith said so.", ["It is 3.5 m long.", "Dr. Smith said so."]),
        ("The U.S. economy grew. It did!", ["The U.S. economy grew.", "It did!"]),
        ('He said "Stop." Then he left.', ['He said "Stop."', "Then he left."]),
        ("Steps:\n- Open it\n- Close it\n\nDone", ["Steps:", "Open it", "Close it", "Done"]),
        ("これは文です。次の文です。", ["これは文です。", "次の文です。"]),
        ("e.g. this stays whole, i.e. one.", ["e.g. this stays whole, i.e. one."]),
        ("", []),
    ],
)
def test_text_is_cut_where_sentences_end(text: str, sentences: list[str]) -> None:
    assert [one.text for one in split_sentences(text)] == sentences


def test_the_time_for_a_long_text_grows_with_its_length_alone() -> None:
    assert len(split_sentences("Ab. Cd " * 100_000)) == 100_001


def test_a_listing_without_full_stops_is_cut_at_spaces() -> None:
    text = "cell " * 1000
    sentences = split_sentences(text)
    assert all(len(one.text) <= MAX_SENTENCE_CHARS for one in sentences)
    assert "".join(one.text for one in sentences).replace(" ", "") == text.replace(" ", "")
