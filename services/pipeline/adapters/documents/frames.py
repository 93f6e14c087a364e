"""What the service and its document worker say to each other, over a pipe: a JSON head and raw bytes."""

import struct
from dataclasses import asdict
from typing import Any

import orjson

from services.pipeline.domain.chunking import Chunk, ChunkSize
from services.pipeline.domain.document import RawDocument, ReadDocument, UnreadableDocumentError

PREFIX = struct.Struct("<II")
"""Bytes of the head, bytes of the body."""


def pack(head: dict[str, Any], body: bytes = b"") -> bytes:
    """One frame."""
    packed = orjson.dumps(head)
    return PREFIX.pack(len(packed), len(body)) + packed + body


def pack_request(document: RawDocument, size: ChunkSize, label_tokens: int) -> bytes:
    """Asks for a document to be read."""
    head = {
        "source": document.source,
        "mime_type": document.mime_type,
        "title": document.title,
        "size": asdict(size),
        "label_tokens": label_tokens,
    }
    return pack(head, document.content)


def unpack_request(head: bytes, body: bytes) -> tuple[RawDocument, ChunkSize, int]:
    """The inverse of `pack_request`."""
    fields = orjson.loads(head)
    size, label_tokens = ChunkSize(**fields.pop("size")), fields.pop("label_tokens")
    return RawDocument(content=body, **fields), size, label_tokens


def pack_answer(document: ReadDocument) -> bytes:
    """Hands a document over; chunks go as character spans of the text."""
    spans = [(chunk.start_char, chunk.end_char) for chunk in document.chunks]
    head = {"title": document.title, "label": document.label, "spans": spans}
    return pack(head, document.text.encode("utf-8"))


def unpack_answer(head: bytes, body: bytes) -> ReadDocument:
    """The inverse of `pack_answer`; raises UnreadableDocumentError where the worker did."""
    fields = orjson.loads(head)
    if "unreadable" in fields:
        raise UnreadableDocumentError(fields["unreadable"])
    text = body.decode("utf-8")
    chunks = (Chunk(start_char=start, end_char=end, text=text[start:end]) for start, end in fields["spans"])
    return ReadDocument(title=fields["title"], label=fields["label"], text=text, chunks=tuple(chunks))
