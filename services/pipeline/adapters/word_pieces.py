from __future__ import annotations

from typing import TYPE_CHECKING, Self

from tokenizers import Tokenizer

from services.pipeline.domain.chunking import Word

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class WordPieces:
    """MiniLM's own tokenizer (BERT, uncased): it counts what the model reads, [CLS] and [SEP] aside."""

    def __init__(self, path: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    @classmethod
    def within(cls, artifacts: Path) -> Self:
        """The tokenizer in the folder of artifacts."""
        return cls(artifacts / "minilm" / "tokenizer.json")

    def words(self, text: str) -> list[Word]:
        """The words with their word pieces counted; punctuation and CJK characters are words of their own."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        words: list[Word] = []
        last: int | None = None
        for number, (start, end) in zip(encoding.word_ids, encoding.offsets, strict=True):
            if number == last and words:
                words[-1] = Word(words[-1].start, end, words[-1].tokens + 1)
            else:
                words.append(Word(start, end, 1))
            last = number
        return words

    def count(self, texts: Sequence[str]) -> list[int]:
        """Word pieces of each text."""
        encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [len(encoding.ids) for encoding in encodings]
