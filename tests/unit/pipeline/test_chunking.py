from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.pipeline.adapters.word_pieces import WordPieces
from services.pipeline.domain.chunking import ChunkSize, split

SIZE = ChunkSize(max_tokens=128, overlap_tokens=20)

# What documents are made of, and what breaks splitters: long words, other scripts, heaps of white space.
PIECES = st.one_of(
    st.sampled_from(
        [
            "The Moon orbits the Earth. ",
            "Does it? Yes! ",
            "\n\n",
            "\n# A heading\n",
            "- a point\n",
            "   \t  ",
            "日本語の文章です。",
            "한국어 ",
            "e\u0301galite\u0301 ",
            "🙂👍🏽 ",
            "\u200b",
            "x" * 333,
            "a.b-c/" * 60,
            "0123456789" * 30,
            "word " * 150,
        ]
    ),
    st.text(max_size=30),
)
TEXTS = st.lists(PIECES, max_size=40).map("".join)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXTS)
def test_chunks_hold_every_character_once_at_least_and_fit_the_model(
    word_pieces: WordPieces, text: str
) -> None:
    chunks = list(split(text, word_pieces, SIZE))

    covered = [False] * len(text)
    for chunk in chunks:
        assert chunk.text == text[chunk.start_char : chunk.end_char]
        assert chunk.text
        assert chunk.text == chunk.text.strip()
        covered[chunk.start_char : chunk.end_char] = [True] * len(chunk.text)
    assert all(seen or character.isspace() for seen, character in zip(covered, text, strict=True))
    assert max(word_pieces.count([chunk.text for chunk in chunks]), default=0) <= SIZE.max_tokens
    starts = [chunk.start_char for chunk in chunks]
    assert starts == sorted(set(starts))
    ends = [chunk.end_char for chunk in chunks]
    assert ends == sorted(set(ends))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXTS)
def test_chunks_repeat_no_more_than_the_overlap(word_pieces: WordPieces, text: str) -> None:
    chunks = list(split(text, word_pieces, SIZE))
    for before, after in pairwise(chunks):
        repeated = text[after.start_char : before.end_char]
        assert sum(word_pieces.count([repeated])) <= SIZE.overlap_tokens


def test_a_chunk_ends_before_the_next_heading(word_pieces: WordPieces) -> None:
    section = "Some words about the matter at hand. " * 8
    text = f"# One\n\n{section}\n\n# Two\n\n{section}\n\n# Three\n\n{section}"
    chunks = list(split(text, word_pieces, SIZE))
    assert [chunk.text.splitlines()[0] for chunk in chunks] == ["# One", "# Two", "# Three"]


def test_chunks_end_at_sentences_where_there_are_no_paragraphs(word_pieces: WordPieces) -> None:
    text = "This sentence has exactly eight words in it. " * 60
    chunks = list(split(text, word_pieces, SIZE))
    assert len(chunks) > 3
    assert all(chunk.text.startswith("This") and chunk.text.endswith("it.") for chunk in chunks)


def test_a_short_text_is_one_chunk_and_an_empty_one_is_none(word_pieces: WordPieces) -> None:
    assert [chunk.text for chunk in split("  Hello.  ", word_pieces, SIZE)] == ["Hello."]
    assert list(split(" \n ", word_pieces, SIZE)) == []


@pytest.mark.parametrize(("max_tokens", "overlap_tokens"), [(127, 0), (200, 51), (200, -1)])
def test_a_size_that_could_not_be_kept_is_refused(max_tokens: int, overlap_tokens: int) -> None:
    with pytest.raises(ValueError, match="_tokens"):
        ChunkSize(max_tokens=max_tokens, overlap_tokens=overlap_tokens)
