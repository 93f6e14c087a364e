from hypothesis import given
from hypothesis import strategies as st

from services.router.domain.batching import BYTES_PER_TOKEN, estimate_tokens, share_out, split
from services.router.domain.catalogue import Batching

TEXTS = st.lists(st.text(max_size=40), max_size=60)


@given(TEXTS, st.integers(1, 8), st.integers(1, 60))
def test_every_text_goes_into_one_call_that_the_model_takes(texts: list[str], most: int, tokens: int) -> None:
    batches = split(texts, Batching(texts=most, tokens=tokens))
    assert [text for batch in batches for text in batch] == texts
    for batch in batches:
        assert 1 <= len(batch) <= most
        size = sum(-(-len(text.encode(errors="replace")) // BYTES_PER_TOKEN) for text in batch)
        assert size <= tokens or len(batch) == 1


def test_texts_that_fit_together_are_one_call() -> None:
    assert split(["a"] * 10, Batching(texts=10, tokens=10)) == [["a"] * 10]
    assert list(map(len, split(["a"] * 10, Batching(texts=4)))) == [4, 4, 2]
    assert list(map(len, split(["four"] * 5, Batching(tokens=4)))) == [2, 2, 1]


@given(st.integers(0, 10**6), st.lists(st.text(max_size=40), min_size=1, max_size=60))
def test_shares_of_tokens_add_up(tokens: int, texts: list[str]) -> None:
    shares = share_out(tokens, texts)
    assert sum(shares) == tokens
    assert min(shares) >= 0


def test_a_longer_text_has_more_of_the_tokens() -> None:
    assert share_out(12, ["a", "aaa", "aa"]) == [2, 6, 4]
    assert estimate_tokens(["hello", "you"]) == 2
