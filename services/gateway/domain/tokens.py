"""How many tokens a prompt has, before any model is called.

Text is counted with OpenAI's published vocabularies. For models whose vocabulary is not public the count is
an estimate of ours: Anthropic's models are taken as 1.25 times o200k, all others as o200k.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

from quartet.common.v1 import generation_pb2, message_pb2

TOKENS_PER_MESSAGE = 3
"""Around each message, and once more to begin the answer: OpenAI's cookbook, "How to count tokens"."""
TOKENS_PER_TOOL = 12
"""Around a tool's name, description and schema: OpenAI's cookbook, as above (7 + 3, and 2 to close)."""
TOKENS_PER_IMAGE = 1600
"""The most that Anthropic's docs name for a picture; OpenAI's high detail stays below."""
TOKENS_PER_SMALL_IMAGE = 85
"""OpenAI's `detail: low`."""
BYTES_PER_FILE_TOKEN = 16
"""Anthropic's docs name 3,000 tokens for a dense page of a PDF, which we take as 48 KiB."""
TOKENS_PER_FILE_BY_ADDRESS = 3000
ESTIMATED_BYTES_PER_TOKEN = 4
"""Of English text; used where the bytes prove that no limit is near and nothing is counted."""

_PIECE_CHARS = 8192
"""About half a millisecond of counting. It holds the interpreter's lock: a thread would not free the loop."""
_LONGEST_PIECE_CHARS = 4 * _PIECE_CHARS
_SAFE_CUT = re.compile(r"(?<=[^\W\d_])(?= [^\W\d_])")
"""Between a letter and a space: no token of either vocabulary reaches across."""

Counter = Callable[[str], int]


class Vocabulary(Enum):
    """The vocabularies that can be counted with."""

    O200K = "o200k_base"
    CL100K = "cl100k_base"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counting:
    """How the tokens of a model are counted: the vocabulary's count times the factor."""

    vocabulary: Vocabulary
    exact: bool
    factor: Fraction = Fraction(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """The tokens of a prompt.

    Attributes:
        tokens: As counted; when `complete` is False, as projected from the part that was.
        exact: True when the model's own vocabulary counted all of it.
    """

    tokens: int
    exact: bool
    vocabulary: str
    complete: bool = True


_CL100K_MODELS = re.compile(r"gpt-4(-|$)|gpt-3\.5|gpt-35|text-embedding-(3-|ada-002)")
_O200K_MODELS = re.compile(r"gpt-(4o|4\.1|4\.5|[5-9])|chatgpt-|o[1-9](-|$)")
_EXACT_O200K = Counting(vocabulary=Vocabulary.O200K, exact=True)
_EXACT_CL100K = Counting(vocabulary=Vocabulary.CL100K, exact=True)
_CLAUDE = Counting(vocabulary=Vocabulary.O200K, exact=False, factor=Fraction(5, 4))
_OTHERS = Counting(vocabulary=Vocabulary.O200K, exact=False)


def counting_of(model: str) -> Counting:
    """How a model's tokens are counted; an empty or unknown name is estimated with the newest vocabulary."""
    if _O200K_MODELS.match(model):
        return _EXACT_O200K
    if _CL100K_MODELS.match(model):
        return _EXACT_CL100K
    return _CLAUDE if "claude" in model else _OTHERS


class TokenCounter:
    """Counts prompts without holding the event loop for more than about a millisecond.

    Args:
        counters: A counter of plain text for each vocabulary.
    """

    def __init__(self, counters: Callable[[Vocabulary], Counter]) -> None:
        self._counters = counters

    async def count(
        self,
        messages: Iterable[message_pb2.Message],
        spec: generation_pb2.GenerationSpec,
        counting: Counting,
        *,
        enough: int | None = None,
    ) -> Count:
        """Counts messages, tools and schema; stops once beyond `enough` and projects the rest."""
        prompt = _Contents(messages, spec)
        return await self._count(prompt.texts, prompt.fixed_tokens, counting, enough, plain=prompt.is_plain)

    async def count_texts(
        self, texts: Iterable[str], counting: Counting, *, enough: int | None = None
    ) -> Count:
        """Counts bare texts, as embeddings take them."""
        return await self._count(list(texts), 0, counting, enough, plain=True)

    async def _count(
        self, texts: list[str], fixed: int, counting: Counting, enough: int | None, *, plain: bool
    ) -> Count:
        counter = self._counters(counting.vocabulary)
        counted = seen = 0
        complete = True
        async for piece in _pieces(texts):
            counted += counter(piece)
            seen += len(piece)
            if enough is not None and _scaled(counted, counting) + fixed > enough:
                complete = seen == (total := sum(map(len, texts)))
                counted = counted if complete else counted * total // seen
                break
        return Count(
            tokens=_scaled(counted, counting) + fixed,
            exact=counting.exact and complete and plain,
            vocabulary=counting.vocabulary.value,
            complete=complete,
        )


def bound_tokens(
    messages: Iterable[message_pb2.Message], spec: generation_pb2.GenerationSpec, counting: Counting
) -> tuple[int, int]:
    """What a prompt can have at most, since a token has at least one byte, and what it likely has."""
    contents = _Contents(messages, spec)
    text_bytes = sum(len(text.encode()) for text in contents.texts)
    return (
        _scaled(text_bytes, counting) + contents.fixed_tokens,
        -(-text_bytes // ESTIMATED_BYTES_PER_TOKEN) + contents.fixed_tokens,
    )


def _scaled(tokens: int, counting: Counting) -> int:
    factor = counting.factor
    return -(-tokens * factor.numerator // factor.denominator)


class _Contents:
    """The texts of a prompt, and the tokens of everything that is no text."""

    __slots__ = ("fixed_tokens", "is_plain", "texts")

    def __init__(self, messages: Iterable[message_pb2.Message], spec: generation_pb2.GenerationSpec) -> None:
        self.texts: list[str] = []
        self.fixed_tokens = TOKENS_PER_MESSAGE
        self.is_plain = True
        for message in messages:
            self.fixed_tokens += TOKENS_PER_MESSAGE
            if message.name:
                self.fixed_tokens += 1
                self.texts.append(message.name)
            self._add_parts(message.parts)
        for tool in spec.tools:
            self.is_plain = False
            self.fixed_tokens += TOKENS_PER_TOOL
            self.texts += (tool.name, tool.description, tool.input_schema_json, tool.builtin_json)
        if spec.response_format.schema_json:
            self.is_plain = False
            self.texts.append(spec.response_format.schema_json)

    def _add_parts(self, parts: Iterable[message_pb2.Part]) -> None:
        for part in parts:
            match part.WhichOneof("kind"):
                case "text":
                    self.texts.append(part.text)
                case "refusal":
                    self.texts.append(part.refusal)
                case "tool_call":
                    self.is_plain = False
                    self.texts += (part.tool_call.name, part.tool_call.arguments_json)
                case "tool_result":
                    self._add_parts(part.tool_result.content)
                case "thinking":
                    self.is_plain = False
                    self.texts.append(part.thinking.text)
                case "passage":
                    self.texts += (part.passage.title, part.passage.text)
                case "image":
                    self.is_plain = False
                    small = part.image.detail == "low"
                    self.fixed_tokens += TOKENS_PER_SMALL_IMAGE if small else TOKENS_PER_IMAGE
                case "document":
                    self.is_plain = False
                    self._add_file(part.document)

    def _add_file(self, file: message_pb2.Media) -> None:
        if file.WhichOneof("source") != "data":
            self.fixed_tokens += TOKENS_PER_FILE_BY_ADDRESS
        elif file.mime_type.startswith("text/"):
            self.texts.append(file.data.decode(errors="replace"))
        else:
            self.fixed_tokens += -(-len(file.data) // BYTES_PER_FILE_TOKEN)


async def _pieces(texts: Iterable[str]) -> AsyncIterator[str]:
    """Pieces whose counts add up to the text's own; between long ones other work gets its turn."""
    for text in texts:
        for piece in _cut(text):
            yield piece
            if len(piece) >= _PIECE_CHARS:
                await asyncio.sleep(0)


def _cut(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > _PIECE_CHARS:
        safe = _SAFE_CUT.search(text, start + _PIECE_CHARS, start + _LONGEST_PIECE_CHARS)
        # Where nothing is safe to cut, as in one endless word, a cut may cost a token or two.
        end = safe.start() if safe else min(start + _LONGEST_PIECE_CHARS, len(text))
        yield text[start:end]
        start = end
    if start < len(text):
        yield text[start:]
