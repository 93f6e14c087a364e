"""From a document's bytes to its text and chunks; runs in the worker process."""

from collections.abc import Callable
from pathlib import PurePosixPath

from services.pipeline.adapters.documents import docx, html, markdown, pdf, text
from services.pipeline.domain import media_types
from services.pipeline.domain.chunking import ChunkSize, Tokenizer, split
from services.pipeline.domain.document import RawDocument, ReadDocument, UnreadableDocumentError

MAX_TITLE_CHARACTERS = 1024

READERS: dict[str, Callable[[bytes], tuple[str, str]]] = {
    media_types.TEXT: text.read,
    media_types.MARKDOWN: markdown.read,
    media_types.HTML: html.read,
    media_types.PDF: pdf.read,
    media_types.DOCX: docx.read,
}


def read_document(
    document: RawDocument, tokenizer: Tokenizer, size: ChunkSize, label_tokens: int
) -> ReadDocument:
    """Reads and splits a document.

    Raises:
        UnreadableDocumentError: its bytes are not what its type says, or hold no text.
    """
    found, body = READERS[document.mime_type](document.content)
    whole = text.tidy(body)
    if not whole:
        raise UnreadableDocumentError("it holds no text")
    title = text.tidy(document.title or found)[:MAX_TITLE_CHARACTERS] or PurePosixPath(document.source).name
    return ReadDocument(
        title=title,
        label=_cut(title, tokenizer, label_tokens),
        text=whole,
        chunks=tuple(split(whole, tokenizer, size)),
    )


def _cut(title: str, tokenizer: Tokenizer, max_tokens: int) -> str:
    line = " ".join(title.split())
    spent = 0
    for word in tokenizer.words(line):
        spent += word.tokens
        if spent > max_tokens:
            return line[: word.start].rstrip()
    return line
