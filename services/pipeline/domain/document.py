from dataclasses import dataclass

from services.pipeline.domain.chunking import Chunk


class UnreadableDocumentError(Exception):
    """A document cannot be read; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawDocument:
    """A document as it was sent."""

    source: str
    mime_type: str
    content: bytes
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadDocument:
    """A document as it was read.

    Attributes:
        title: As given, else found in the document, else its file name.
        label: The title cut to the tokens that are embedded before each chunk.
        text: All its text; chunks count its characters.
    """

    title: str
    label: str
    text: str
    chunks: tuple[Chunk, ...]

    @property
    def embedded_texts(self) -> list[str]:
        """What is embedded for each chunk: it says of which document it is a part."""
        return [f"{self.label}\n{chunk.text}" if self.label else chunk.text for chunk in self.chunks]
