"""From paths to the stream of pieces in which documents are sent."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from quartet.common.v1.document_pb2 import DocumentHeader
from quartet.gateway.v1.document_pb2 import IngestDocumentsRequest

MEDIA_TYPES = {
    ".md": "text/markdown",
    ".txt": "text/plain",
    ".html": "text/html",
    ".htm": "text/html",
    ".pdf": "application/pdf",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
}
"""What the pipeline reads, by ending."""
PIECE_BYTES = 1024 * 1024
MAX_DOCUMENT_BYTES = 64 * 1024 * 1024
MAX_DOCUMENTS = 1000
"""Of one call; these two are the bounds of DocumentService.IngestDocuments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A document to send; `source` is its name in the collection."""

    path: Path
    source: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A file that is not sent, and why."""

    source: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What the paths hold: `ignored` counts the files in folders whose type is not read."""

    files: tuple[File, ...]
    refusals: tuple[Refusal, ...]
    ignored: int

    @property
    def size_bytes(self) -> int:
        """Of all files together."""
        return sum(file.size_bytes for file in self.files)

    def batches(self) -> list[tuple[File, ...]]:
        """The files in groups that one call takes."""
        starts = range(0, len(self.files), MAX_DOCUMENTS)
        return [self.files[start : start + MAX_DOCUMENTS] for start in starts]


def select(paths: Sequence[Path]) -> Selection:
    """Finds the documents under the paths, each once.

    In folders, files of other types are left aside, and so is what is hidden (`.git`); a file that is named
    itself is refused when it cannot be sent.
    """
    files: dict[str, File] = {}
    refusals: dict[str, Refusal] = {}
    ignored = 0
    for path, named in _walk(paths):
        source = source_of(path)
        if source in files or source in refusals:
            continue
        if not named and path.suffix.lower() not in MEDIA_TYPES:
            ignored += 1
        elif reason := _why_not(path):
            refusals[source] = Refusal(source=source, reason=reason)
        else:
            files[source] = File(path=path, source=source, size_bytes=path.stat().st_size)
    return Selection(files=tuple(files.values()), refusals=tuple(refusals.values()), ignored=ignored)


def source_of(path: Path) -> str:
    """A file's name in a collection: relative to the working directory where it is inside, else absolute."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - `resolve` would follow links, and change the name
    working = Path.cwd()
    return (absolute.relative_to(working) if absolute.is_relative_to(working) else absolute).as_posix()


async def pieces(
    collection: str, files: Sequence[File], sent: Callable[[int], None]
) -> AsyncIterator[IngestDocumentsRequest]:
    """The messages of one upload; `sent` is told the bytes of each piece. Raises OSError."""
    yield IngestDocumentsRequest(collection=collection)
    for file in files:
        media_type = MEDIA_TYPES[file.path.suffix.lower()]
        yield IngestDocumentsRequest(header=DocumentHeader(source=file.source, mime_type=media_type))
        start = 0
        while data := await asyncio.to_thread(_read_piece, file.path, start):
            yield IngestDocumentsRequest(data=data)
            sent(len(data))
            start += len(data)


def _read_piece(path: Path, start: int) -> bytes:
    # The file is open in here only: an upload that is given up between two pieces leaves nothing open.
    with path.open("rb") as file:
        file.seek(start)
        return file.read(PIECE_BYTES)


def _walk(paths: Sequence[Path]) -> Iterator[tuple[Path, bool]]:
    """Each file, and whether it was named itself."""
    for path in paths:
        if not path.is_dir():
            yield path, True
            continue
        for folder, folders, names in os.walk(path):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                if not name.startswith("."):
                    yield Path(folder, name), False


def _why_not(path: Path) -> str:
    if path.suffix.lower() not in MEDIA_TYPES:
        return f"its type is not read; these are: {' '.join(MEDIA_TYPES)}"
    if not path.is_file() or not os.access(path, os.R_OK):
        return "it cannot be read: check that it exists and its permissions"
    if path.stat().st_size > MAX_DOCUMENT_BYTES:
        return f"it is larger than {MAX_DOCUMENT_BYTES // 1024 // 1024} MiB: split it"
    return ""
