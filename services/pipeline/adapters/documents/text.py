"""Plain text, and what all formats' texts have in common."""

import codecs
import re
import unicodedata

from services.pipeline.domain.document import UnreadableDocumentError

MAX_CHARACTERS = 16_000_000
"""Of one document's text: what citations count must fit a database value and a message."""

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufeff\ufffe\uffff]")
_BLANK_LINES = re.compile(r"\n[ \t]*\n(?:[ \t]*\n)+")


def read(content: bytes) -> tuple[str, str]:
    """Decodes by byte order mark, else UTF-8, else Windows-1252; a text has no title of its own."""
    if b"\x00" in content[:4096] and not content.startswith(tuple(mark for mark, _ in _BOMS)):
        raise UnreadableDocumentError("this is binary, not text: send it with its real type")
    return "", decode(content)


def decode(content: bytes) -> str:
    """The text of bytes whose encoding nobody told."""
    for mark, encoding in _BOMS:
        if content.startswith(mark):
            return content.decode(encoding, errors="replace")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")


def tidy(text: str) -> str:
    """One kind of line end, composed characters, no control characters, no two blank lines in a row."""
    if len(text) > MAX_CHARACTERS:
        raise UnreadableDocumentError(
            f"its text has {len(text):,} characters, more than {MAX_CHARACTERS:,}: split the document"
        )
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = _CONTROLS.sub("", unicodedata.normalize("NFC", text))
    return _BLANK_LINES.sub("\n\n", text).strip()
