from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.learned.features import GRAM_SIZES, HEAD_CHARS, TAIL_CHARS, buckets, read


def hashes_of(text: str) -> list[int]:
    """Of the words and pairs, without n-grams."""
    found: list[int] = read(text, with_grams=False).hashes.tolist()
    return found


def grams_of(text: str) -> set[int]:
    return set(read(text).hashes.tolist()) - set(hashes_of(text))


def test_a_word_has_one_hash_wherever_it_stands_and_in_any_case() -> None:
    (apple,) = hashes_of("apple")
    assert hashes_of("an apple, and an Apple").count(apple) == 2


def test_words_numbers_and_marks_are_told_apart() -> None:
    words = ("bob's", "12", "pears", "(", "ripe", ")", "!")
    found = hashes_of("Bob's 12 pears (ripe)!")
    assert found[: len(words)] == [hashes_of(word)[0] for word in words]
    assert len(found) == 2 * len(words) - 1


def test_a_run_of_one_mark_is_one_word_and_another_mark_begins_the_next() -> None:
    assert len(hashes_of("***")) == 1
    assert hashes_of("**=")[:2] == [hashes_of("**")[0], hashes_of("=")[0]]
    assert hashes_of("**") != hashes_of("***")


def test_the_order_of_words_shows_in_pairs_only() -> None:
    one, other = hashes_of("dog bites man"), hashes_of("man bites dog")
    assert set(one[:3]) == set(other[:3])
    assert set(one[3:]).isdisjoint(other[3:])


def test_grams_find_a_stem_within_other_words() -> None:
    assert len(grams_of("transferring") & grams_of("transferred")) > 15
    assert not grams_of("transferring") & grams_of("blue mud")


def test_the_edge_of_a_word_shows_in_its_grams() -> None:
    assert len(grams_of("on")) == 3, "' on', 'on ' and ' on '"


def test_only_head_and_tail_of_a_long_text_are_read() -> None:
    head, tail = "a " * (HEAD_CHARS // 2), " b" * (TAIL_CHARS // 2)
    assert hashes_of(head + "x" * 5_000 + tail) == hashes_of(head + "y" * 5_000 + tail)


def test_the_whole_length_still_shows() -> None:
    assert read("a " * 4_000).length_chars == 8_000


@pytest.mark.parametrize(
    "text", ["", " ", "a", "\n\n", "\ud800 lone", "İ" * 5_000, "漢字" * 3_000, "\x00", "🎉", "x" * 100_000]
)
def test_any_text_is_read(text: str) -> None:
    assert read(text).length_chars == len(text)


@given(words=st.lists(st.from_regex(r"[a-zß-ü']{1,12}|[0-9]{1,6}", fullmatch=True), max_size=40))
def test_hashes_are_those_of_each_word_and_then_of_each_two_neighbours(words: list[str]) -> None:
    text = " ".join(words)
    found = hashes_of(text)
    assert found[: len(words)] == [hashes_of(word)[0] for word in words]
    assert found[len(words) :] == [hashes_of(f"{one} {other}")[2] for one, other in pairwise(words)]
    grams = len(read(text).hashes) - len(found)
    padded_bytes = len(text.encode()) + 2
    assert grams == sum(max(padded_bytes - size + 1, 0) for size in GRAM_SIZES)


def test_buckets_lie_within_the_table() -> None:
    rows = buckets(np.array(hashes_of("many different words stand in this sentence"), dtype=np.uint64), 4)
    assert rows.min() >= 0
    assert rows.max() < 16
    assert len(set(rows)) > 3
