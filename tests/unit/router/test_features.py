"""What rules know of a text."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.domain.features import split_words

_PLAIN_WORD = re.compile(r"[a-z0-9_+#]+")
_WORD = re.compile(r"[a-z0-9_+#]+(?:'(?=[a-z])[a-z0-9_+#]+)*")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't, please!", ["don't", "please"]),
        ("Don\u2019t", ["don't"]),
        ("'quoted' and \u2018so\u2019", ["quoted", "and", "so"]),
        ("the users' C++ or C# code", ["the", "users", "c++", "or", "c#", "code"]),
        ("na\u00efve caf\u00e9", ["na", "ve", "caf"]),
        ("", []),
    ],
)
def test_words_are_small_and_keep_what_belongs_to_them(text: str, words: list[str]) -> None:
    assert split_words(text) == words


@given(st.text().filter(lambda text: not {"'", "\u2019"} & set(text)))
def test_text_without_apostrophes_is_split_at_all_that_is_no_word(text: str) -> None:
    assert split_words(text) == _PLAIN_WORD.findall(text.lower())


@given(st.text(alphabet="aZ9_+' .\u2019\u00e9"))
def test_an_apostrophe_belongs_to_the_word_that_it_stands_within(text: str) -> None:
    assert split_words(text) == _WORD.findall(text.lower().replace("\u2019", "'"))
