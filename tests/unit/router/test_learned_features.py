import numpy as np
import pytest

from services.router.learned.features import HEAD_CHARS, SHAPE_SIZE, TAIL_CHARS, buckets, read


def test_a_word_has_one_hash_wherever_it_stands() -> None:
    alone = read("apple").words
    within = read("an apple, and an Apple").words
    assert alone[0] in within
    assert (within == alone[0]).sum() == 2


def test_words_numbers_and_marks_are_told_apart() -> None:
    assert len(read("Bob's 12 pears (ripe)!").words) == 7


def test_the_order_of_words_shows_in_pairs_only() -> None:
    one, other = read("dog bites man"), read("man bites dog")
    assert set(one.words) == set(other.words)
    assert set(one.pairs).isdisjoint(other.pairs)


def test_grams_find_a_stem_within_other_words() -> None:
    shared = set(read("transferring").grams) & set(read("transferred").grams)
    assert len(shared) > 15
    assert not set(read("transferring").grams) & set(read("blue mud").grams)


def test_grams_are_left_out_when_nobody_asks() -> None:
    assert len(read("some text", with_grams=False).grams) == 0


def test_only_head_and_tail_of_a_long_text_are_read() -> None:
    head, tail = "a " * (HEAD_CHARS // 2), " b" * (TAIL_CHARS // 2)
    one, other = read(head + "x" * 5_000 + tail), read(head + "y" * 5_000 + tail)
    assert np.array_equal(one.words, other.words)
    assert np.array_equal(one.shape, other.shape)


def test_the_whole_length_still_shows_in_the_shape() -> None:
    assert read("a " * 4_000).shape[0] > read("a " * 3_000).shape[0]


def test_options_count_and_a_short_list_does_not_end_the_stem() -> None:
    options = read("Which?\nA. one\nB. two\nC. three\nD. four")
    short = read("Which?\nA. one\nB. two and more words")
    assert options.shape[2] == pytest.approx(np.log1p(4))
    assert options.shape[1] == pytest.approx(np.log1p(len("Which?")))
    assert short.shape[1] == short.shape[0]


def test_a_cue_counts_in_any_case_and_as_a_whole_word_only() -> None:
    plain = read("cold water and cold water").shape
    cue = read("each water and EACH water").shape
    part = read("beach water and beach water").shape
    grown = np.flatnonzero(cue[-21:] > plain[-21:])
    assert len(grown) == 1
    assert cue[-21:][grown[0]] == pytest.approx(np.log1p(2))
    assert np.array_equal(part[-21:], plain[-21:])


@pytest.mark.parametrize(
    "text", ["", " ", "a", "\n\n", "\ud800 lone", "İ" * 5_000, "漢字" * 3_000, "\x00", "🎉", "x" * 100_000]
)
def test_any_text_is_read(text: str) -> None:
    reading = read(text)
    assert reading.shape.shape == (SHAPE_SIZE,)
    assert np.isfinite(reading.shape).all()
    assert len(reading.pairs) == max(len(reading.words) - 1, 0)


def test_buckets_lie_within_the_table() -> None:
    hashes = read("many different words stand in this sentence").words
    rows = buckets(hashes, 4)
    assert rows.min() >= 0
    assert rows.max() < 16
    assert len(set(rows)) > 3
