import io
import re
import zipfile

import docx
from docx.document import Document
from docx.opc.exceptions import OpcError
from docx.table import Table
from docx.text.paragraph import Paragraph

from services.pipeline.domain.document import UnreadableDocumentError

MAX_UNPACKED_BYTES = 256 * 1024 * 1024
MAX_MEMBERS = 10_000

_OLE_MAGIC = b"\xd0\xcf\x11\xe0"
_HEADING = re.compile(r"Heading ([1-6])")


def read(content: bytes) -> tuple[str, str]:
    """Paragraphs and tables in their order; headings get Markdown's `#` marks, ` | ` parts cells."""
    if content.startswith(_OLE_MAGIC):
        raise UnreadableDocumentError("it is encrypted or an old .doc: save it as .docx without a password")
    _check_size(content)
    try:
        document = docx.Document(io.BytesIO(content))
        title = document.core_properties.title or ""
        blocks = [
            _paragraph(block) if isinstance(block, Paragraph) else _table(block)
            for block in _blocks(document)
        ]
    except (
        OpcError,
        KeyError,
        ValueError,
        AttributeError,
        SyntaxError,
        zipfile.BadZipFile,
    ) as error:
        raise UnreadableDocumentError(
            "it is not a sound .docx: open it, save it anew and send it again"
        ) from error
    return title.strip(), "\n\n".join(block for block in blocks if block)


def _check_size(content: bytes) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise UnreadableDocumentError("it is not a .docx file: send it with its real type") from error
    # The sizes are the archive's own word; zipfile stops reading a member at the size that it claims.
    if len(members) > MAX_MEMBERS or sum(member.file_size for member in members) > MAX_UNPACKED_BYTES:
        raise UnreadableDocumentError("it unpacks to far more than its size: this looks like a bomb")


def _blocks(document: Document) -> list[Paragraph | Table]:
    return list(document.iter_inner_content())


def _paragraph(paragraph: Paragraph) -> str:
    text = paragraph.text.strip()
    style = paragraph.style.name if paragraph.style is not None else ""
    if text and (level := _HEADING.fullmatch(style or "")):
        return f"{'#' * int(level[1])} {text}"
    return f"# {text}" if text and style == "Title" else text


def _table(table: Table) -> str:
    return "\n".join(" | ".join(cell.text.strip() for cell in row.cells) for row in table.rows)
