from pathlib import PurePosixPath

from services.kit.errors import InvalidArgument

TEXT = "text/plain"
MARKDOWN = "text/markdown"
HTML = "text/html"
PDF = "application/pdf"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"

ENDINGS = {
    ".txt": TEXT,
    ".text": TEXT,
    ".md": MARKDOWN,
    ".markdown": MARKDOWN,
    ".html": HTML,
    ".htm": HTML,
    ".pdf": PDF,
    ".docx": DOCX,
}
READ = frozenset(ENDINGS.values())


def media_type(mime_type: str, name: str, *, field: str) -> str:
    """The type of a document, as given or told by its name's ending.

    Raises:
        InvalidArgument: it is none of those that are read; the message names them.
    """
    given = mime_type.partition(";")[0].strip().lower()
    ending = PurePosixPath(name).suffix.lower()
    found = given or ENDINGS.get(ending, "")
    if found not in READ:
        what = given or (f"the ending {ending!r}" if ending else "a name without an ending")
        raise InvalidArgument.field(
            field,
            f"{what} of {name!r} is not read: send .txt, .md, .html, .pdf or .docx, "
            f"or one of the types {', '.join(sorted(READ))}",
            reason="DOCUMENT_TYPE_NOT_READ",
        )
    return found
