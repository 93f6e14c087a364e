"""The size of a picture, read from its first bytes: PNG, JPEG, GIF and WebP, which both vendors take.

The bytes are a client's: whatever they are, the answer is a size or None, after a bounded look.
"""

import struct
from typing import Any, NamedTuple

MAX_JPEG_SEGMENTS = 512
"""Looked through for the frame's header. Profiles and thumbnails make some dozens at most."""
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_NO_FRAME = frozenset({0xC4, 0xC8, 0xCC})
"""Of the markers C0 to CF: tables, an extension, and arithmetic conditioning (ITU T.81, table B.1)."""
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD8)})


class Size(NamedTuple):
    """Pixels, both above zero."""

    width_px: int
    height_px: int


def read_size(data: bytes) -> Size | None:
    """The size that the header tells; None for what is no such picture, or is cut off before it."""
    if data.startswith(_PNG):
        found = _fields(">4sII", data, 12)
        size = found[1:] if found and found[0] == b"IHDR" else None
    elif data.startswith((b"GIF87a", b"GIF89a")):
        size = _fields("<HH", data, 6)
    elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        size = _webp(data)
    elif data.startswith(_JPEG):
        size = _jpeg(data)
    else:
        return None
    return Size(*size) if size and all(size) else None


def _webp(data: bytes) -> tuple[int, ...] | None:
    """By the first chunk (RFC 9649, sections 2.5 to 2.7 and 3.4)."""
    match data[12:16]:
        case b"VP8X":
            found = _fields("<HBHB", data, 24)
            return (1 + (found[0] | found[1] << 16), 1 + (found[2] | found[3] << 16)) if found else None
        case b"VP8L":
            found = _fields("<BI", data, 20)
            if found is None or found[0] != 0x2F:
                return None
            return 1 + (found[1] & 0x3FFF), 1 + (found[1] >> 14 & 0x3FFF)
        case b"VP8 ":
            found = _fields("<3sHH", data, 23)
            return (found[1] & 0x3FFF, found[2] & 0x3FFF) if found and found[0] == b"\x9d\x01\x2a" else None
    return None


def _jpeg(data: bytes) -> tuple[int, ...] | None:
    """From the frame's header, behind any number of other segments (ITU T.81, annex B)."""
    at = 2
    for _ in range(MAX_JPEG_SEGMENTS):
        found = _fields(">BBH", data, at)
        if found is None or found[0] != 0xFF:
            return None
        marker, length = found[1], found[2]
        if marker == 0xFF:
            at += 1
        elif marker in _WITHOUT_LENGTH:
            at += 2
        elif 0xC0 <= marker <= 0xCF and marker not in _NO_FRAME:
            frame = _fields(">HH", data, at + 5)
            return (frame[1], frame[0]) if frame else None
        elif length < 2:
            return None
        else:
            at += 2 + length
    return None


def _fields(form: str, data: bytes, at: int) -> tuple[Any, ...] | None:
    try:
        return struct.unpack_from(form, data, at)
    except struct.error:
        return None
