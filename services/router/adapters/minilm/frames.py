"""What the embedder and its worker process say to each other over their socket.

A frame is a little-endian uint32 length and as many bytes. The worker's first frame is empty when it is
ready, else text saying why it cannot start. Then each frame of texts (a JSON list) is answered by one frame:
a uint32 count, a uint32 token count for each text, and the vectors as packed float32, row by row, all
little-endian.
"""

import struct
from collections.abc import Sequence
from typing import BinaryIO

import orjson

LENGTH = struct.Struct("<I")


def frame(content: bytes) -> bytes:
    """Put the length before the content."""
    return LENGTH.pack(len(content)) + content


def read(stream: BinaryIO) -> bytes | None:
    """Read one frame's content, blocking; None when the other side is gone, even in the middle of a frame."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    content = stream.read(length)
    return content if len(content) == length else None


def pack_texts(texts: Sequence[str]) -> bytes:
    """Write the texts as JSON; a text that is not valid Unicode (a lone surrogate) is a TypeError."""
    return orjson.dumps(texts)


def unpack_texts(content: bytes) -> list[str]:
    """Read what `pack_texts` wrote."""
    texts: list[str] = orjson.loads(content)
    return texts


def pack_answer(token_counts: Sequence[int], vectors: bytes) -> bytes:
    """Put the counts before the vectors, which are packed already."""
    count = len(token_counts)
    return struct.pack(f"<{count + 1}I", count, *token_counts) + vectors


def unpack_answer(content: bytes) -> tuple[tuple[int, ...], memoryview]:
    """Read what `pack_answer` wrote; the vectors are a view of the content."""
    (count,) = LENGTH.unpack_from(content)
    token_counts = struct.unpack_from(f"<{count}I", content, LENGTH.size)
    return token_counts, memoryview(content)[LENGTH.size * (count + 1) :]
