import asyncio
import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quartet.common.v1 import generation_pb2, message_pb2
from services.gateway.adapters.vocabularies import counter_of
from services.gateway.domain.tokens.contents import Contents
from services.gateway.domain.tokens.counter import TokenCounter, _cut
from services.gateway.domain.tokens.counting import Vocabulary, counting_of

COUNTER = TokenCounter(counter_of)
NO_SPEC = generation_pb2.GenerationSpec()
PHRASE = "The quick brown fox, 3.14 of; isn't it naïve? für Söhne 你好 こんにちは f(x): x+1 \n\n "
WORDS = PHRASE.split(sep=" ")


def user(text: str) -> list[message_pb2.Message]:
    return [message_pb2.Message(role=message_pb2.ROLE_USER, parts=[message_pb2.Part(text=text)])]


def contents(
    messages: list[message_pb2.Message], model: str, spec: generation_pb2.GenerationSpec = NO_SPEC
) -> Contents:
    return Contents(messages, spec, counting_of(model))


def prose(words: int) -> str:
    chosen = random.Random(words)
    return " ".join(chosen.choice(WORDS) for _ in range(words))


@pytest.mark.parametrize(
    ("model", "vocabulary", "exact"),
    [
        ("gpt-4o-mini", "o200k_base", True),
        ("gpt-6.1-terra", "o200k_base", True),
        ("o3", "o200k_base", True),
        ("gpt-4-turbo", "cl100k_base", True),
        ("gpt-3.5-turbo", "cl100k_base", True),
        ("text-embedding-3-small", "cl100k_base", True),
        ("claude-opus-5-5", "o200k_base", False),
        ("local/extractive", "o200k_base", False),
        ("", "o200k_base", False),
    ],
)
async def test_the_model_names_its_vocabulary(model: str, vocabulary: str, exact: bool) -> None:
    count = await COUNTER.count(contents(user("hello world"), model))
    assert (count.vocabulary, count.exact) == (vocabulary, exact)


@pytest.mark.parametrize("vocabulary", list(Vocabulary))
@pytest.mark.parametrize("words", [10, 5_000, 40_000])
def test_pieces_add_up_to_the_whole(vocabulary: Vocabulary, words: int) -> None:
    text = prose(words)
    pieces = list(_cut(text))
    assert "".join(pieces) == text
    assert sum(map(counter_of(vocabulary), pieces)) == counter_of(vocabulary)(text)


@given(st.text(max_size=200), st.integers(1, 300), st.sampled_from([256, 1000, 8192]))
@settings(max_examples=60)
def test_any_text_is_counted_alike_in_pieces(text: str, times: int, piece_chars: int) -> None:
    long = f"{text} and on " * times
    for vocabulary in Vocabulary:
        counter = counter_of(vocabulary)
        assert sum(map(counter, _cut(long, piece_chars))) == counter(long)


def test_an_endless_word_is_cut_all_the_same() -> None:
    pieces = list(_cut("a" * 500_000))
    assert max(map(len, pieces)) <= 32_768
    assert sum(map(len, pieces)) == 500_000


@given(st.text())
async def test_the_bound_is_never_below_the_count(text: str) -> None:
    for model in ("gpt-4o", "claude-opus-5-5"):
        prompt = contents(user(text), model)
        most, _ = prompt.bound()
        assert (await COUNTER.count(prompt)).tokens <= most


async def test_counting_stops_beyond_the_limit_and_projects_the_rest() -> None:
    counted: list[str] = []

    def note(text: str) -> int:
        counted.append(text)
        return counter_of(Vocabulary.O200K)(text)

    text = prose(40_000)
    counter = TokenCounter(lambda _: note)
    count = await counter.count(contents(user(text), "gpt-4o"), enough=100)
    assert len(counted) == 1
    assert not count.complete
    assert not count.exact
    whole = await COUNTER.count(contents(user(text), "gpt-4o"))
    assert count.tokens == pytest.approx(whole.tokens, rel=0.1)


async def test_other_work_gets_its_turn_while_a_long_text_is_counted() -> None:
    text = prose(200_000)
    turns = 0

    async def work() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(work())
    await COUNTER.count(contents(user(text), "gpt-4o"))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert turns > len(text) // 32_768


async def test_pictures_and_files_count_by_the_models_formula() -> None:
    plain = await COUNTER.count(contents(user("look"), "gpt-4o"))
    header = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 1024, 1024)
    by_address = message_pb2.Media(url="https://a/b.png")
    for part, tokens in (
        (message_pb2.Part(image=by_address), 85 + 8 * 170),
        (message_pb2.Part(image=message_pb2.Media(url="https://a/b.png", detail="low")), 85),
        (message_pb2.Part(image=message_pb2.Media(data=header)), 765),
        (message_pb2.Part(image=message_pb2.Media(data=b"no picture")), 85 + 8 * 170),
        (message_pb2.Part(document=message_pb2.Media(data=b"%PDF /Type /Page>>")), 765 + 765),
        (message_pb2.Part(document=message_pb2.Media(url="https://a/b.pdf")), 3 * (765 + 765)),
        (message_pb2.Part(document=message_pb2.Media(mime_type="text/plain", data=b"look")), 1),
    ):
        messages = user("look")
        messages[0].parts.append(part)
        count = await COUNTER.count(contents(messages, "gpt-4o"))
        assert (count.tokens, count.exact) == (plain.tokens + tokens, False)
