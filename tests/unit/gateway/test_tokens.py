import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quartet.common.v1 import generation_pb2, message_pb2
from services.gateway.adapters.vocabularies import counter_of
from services.gateway.domain.tokens import (
    TokenCounter,
    Vocabulary,
    _cut,
    bound_tokens,
    counting_of,
)

COUNTER = TokenCounter(counter_of)
NO_SPEC = generation_pb2.GenerationSpec()
PHRASE = "The quick brown fox, 3.14 of; isn't it naïve? für Söhne 你好 こんにちは f(x): x+1 \n\n "
WORDS = PHRASE.split(sep=" ")


def user(text: str) -> list[message_pb2.Message]:
    return [message_pb2.Message(role=message_pb2.ROLE_USER, parts=[message_pb2.Part(text=text)])]


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
    count = await COUNTER.count(user("hello world"), NO_SPEC, counting_of(model))
    assert (count.vocabulary, count.exact) == (vocabulary, exact)


async def test_a_known_text_has_its_known_count() -> None:
    # "tiktoken is great!" is 6 tokens in both vocabularies: OpenAI's cookbook.
    assert (await COUNTER.count_texts(["tiktoken is great!"], counting_of("gpt-4"))).tokens == 6
    assert (await COUNTER.count_texts(["tiktoken is great!"], counting_of("gpt-4o"))).tokens == 6


@pytest.mark.parametrize("vocabulary", list(Vocabulary))
@pytest.mark.parametrize("words", [10, 5_000, 40_000])
def test_pieces_add_up_to_the_whole(vocabulary: Vocabulary, words: int) -> None:
    text = prose(words)
    pieces = list(_cut(text))
    assert "".join(pieces) == text
    assert sum(map(counter_of(vocabulary), pieces)) == counter_of(vocabulary)(text)


@given(st.text(max_size=200), st.integers(1, 300))
@settings(max_examples=60)
def test_any_text_is_counted_alike_in_pieces(text: str, times: int) -> None:
    long = f"{text} and on " * times
    assert sum(map(counter_of(Vocabulary.O200K), _cut(long))) == counter_of(Vocabulary.O200K)(long)


def test_an_endless_word_is_cut_all_the_same() -> None:
    pieces = list(_cut("a" * 500_000))
    assert max(map(len, pieces)) <= 32_768
    assert sum(map(len, pieces)) == 500_000


@given(st.text())
async def test_the_bound_is_never_below_the_count(text: str) -> None:
    for model in ("gpt-4o", "claude-opus-5-5"):
        most, _ = bound_tokens(user(text), NO_SPEC, counting_of(model))
        assert (await COUNTER.count(user(text), NO_SPEC, counting_of(model))).tokens <= most


async def test_counting_stops_beyond_the_limit_and_projects_the_rest() -> None:
    counted: list[str] = []

    def note(text: str) -> int:
        counted.append(text)
        return counter_of(Vocabulary.O200K)(text)

    text = prose(40_000)
    counter = TokenCounter(lambda _: note)
    count = await counter.count(user(text), NO_SPEC, counting_of("gpt-4o"), enough=100)
    assert len(counted) == 1
    assert not count.complete
    assert not count.exact
    whole = await COUNTER.count(user(text), NO_SPEC, counting_of("gpt-4o"))
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
    await COUNTER.count(user(text), NO_SPEC, counting_of("gpt-4o"))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert turns > len(text) // 32_768


async def test_pictures_files_and_tools_count_too() -> None:
    plain = await COUNTER.count(user("look"), NO_SPEC, counting_of("gpt-4o"))
    image = message_pb2.Part(image=message_pb2.Media(url="https://a/b.png"))
    small = message_pb2.Part(image=message_pb2.Media(url="https://a/b.png", detail="low"))
    file = message_pb2.Part(document=message_pb2.Media(mime_type="application/pdf", data=b"x" * 1600))
    for part, tokens in ((image, 1600), (small, 85), (file, 100)):
        messages = user("look")
        messages[0].parts.append(part)
        count = await COUNTER.count(messages, NO_SPEC, counting_of("gpt-4o"))
        assert (count.tokens, count.exact) == (plain.tokens + tokens, False)
    spec = generation_pb2.GenerationSpec(tools=[generation_pb2.Tool(name="weather", description="now")])
    assert (await COUNTER.count(user("look"), spec, counting_of("gpt-4o"))).tokens == plain.tokens + 12 + 2
