"""AWS's binary event stream: frames with a prelude, headers, a payload and two checksums."""

import base64
import struct
import zlib
from collections.abc import Mapping

import orjson

_STRING = 7


def encode(headers: Mapping[str, str], payload: bytes) -> bytes:
    """A frame; all headers are strings."""
    head = b"".join(
        struct.pack(">B", len(name))
        + name.encode()
        + struct.pack(">BH", _STRING, len(value))
        + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack(">II", 16 + len(head) + len(payload), len(head))
    prelude += struct.pack(">I", zlib.crc32(prelude))
    message = prelude + head + payload
    return message + struct.pack(">I", zlib.crc32(message))


def chunk(data: bytes) -> bytes:
    """The frame that brings one event of the model's."""
    headers = {":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"}
    return encode(headers, orjson.dumps({"bytes": base64.b64encode(data).decode(), "p": "abcdefgh"}))


def exception(kind: str, message: str) -> bytes:
    """The frame that ends a stream with an exception."""
    headers = {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}
    return encode(headers, orjson.dumps({"message": message}))


def from_sse(events: bytes) -> bytes:
    """Server-sent events as frames."""
    frames = b""
    for block in events.split(b"\n\n"):
        for line in block.split(b"\n"):
            if line.startswith(b"data: "):
                frames += chunk(line[6:])
    return frames
