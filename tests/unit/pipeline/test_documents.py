import io
import zipfile
from collections.abc import AsyncIterator

import docx
import pypdf
import pytest
import pytest_asyncio

from services.kit.errors import InvalidArgument
from services.pipeline.adapters.documents.process import DocumentProcess
from services.pipeline.domain import media_types
from services.pipeline.domain.chunking import ChunkSize
from services.pipeline.domain.document import RawDocument, ReadDocument, UnreadableDocumentError
from services.pipeline.settings import Settings

SIZE = ChunkSize(max_tokens=200, overlap_tokens=30)


@pytest_asyncio.fixture(scope="module")
async def reader() -> AsyncIterator[DocumentProcess]:
    process = make_reader()
    yield process
    await process.close()


def make_reader(*, timeout_s: float = 30) -> DocumentProcess:
    return DocumentProcess(Settings().artifacts_dir, timeout_s=timeout_s, memory_bytes=1024 * 1024 * 1024)


async def read(
    reader: DocumentProcess, mime_type: str, content: bytes, source: str = "docs/file.x"
) -> ReadDocument:
    document = RawDocument(source=source, mime_type=mime_type, content=content)
    return await reader.read(document, SIZE, label_tokens=20)


def pdf_of(*lines: str) -> bytes:
    """A PDF of one page, written by hand: no library here writes text."""
    shown = " ".join(f"({line}) Tj 0 -14 Td" for line in lines)
    stream = f"BT /F1 12 Tf 72 720 Td {shown} ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R "
        b"/Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    out = bytearray(b"%PDF-1.4\n")
    places = []
    for number, body in enumerate(objects, start=1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, table)
    return bytes(out)


def encrypted_pdf() -> bytes:
    writer = pypdf.PdfWriter(io.BytesIO(pdf_of("Secret")))
    writer.encrypt("password", algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def docx_of() -> bytes:
    document = docx.Document()
    document.core_properties.title = "Orbits"
    document.add_heading("The Moon", level=2)
    document.add_paragraph("It orbits the Earth.")
    table = document.add_table(rows=1, cols=2)
    table.rows[0].cells[0].text, table.rows[0].cells[1].text = "days", "27"
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def bomb() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", b"0" * (300 * 1024 * 1024))
    return out.getvalue()


async def test_markdown_is_kept_and_gives_its_title(reader: DocumentProcess) -> None:
    content = b"---\ntitle: Our Moon\n---\n# Big\r\n\r\n\r\n\r\nText.\x07\n"
    read_document = await read(reader, media_types.MARKDOWN, content)
    assert (read_document.title, read_document.text) == ("Our Moon", "# Big\n\nText.")
    assert read_document.embedded_texts == ["Our Moon\n# Big\n\nText."]


async def test_text_without_a_title_is_called_by_its_file_name(reader: DocumentProcess) -> None:
    read_document = await read(reader, media_types.TEXT, "Größe".encode("cp1252"), "a/b/size.txt")
    assert (read_document.title, read_document.text) == ("size.txt", "Größe")


async def test_html_is_read_as_it_is_seen(reader: DocumentProcess) -> None:
    content = b"""<html><head><title>The &amp; Page</title><style>p {}</style></head><body>
    <nav>Menu</nav><h2>Head</h2><p>One <b>bold</b>
    word.</p><script>evil()</script><ul><li>first</li><li>second</li></ul>
    <table><tr><td>days</td><td>27</td></tr></table></body></html>"""
    read_document = await read(reader, media_types.HTML, content)
    assert read_document.title == "The & Page"
    assert read_document.text == "## Head\n\nOne bold word.\n\n- first\n- second\n\ndays 27"


async def test_a_pdf_gives_its_text(reader: DocumentProcess) -> None:
    read_document = await read(reader, media_types.PDF, pdf_of("The Moon", "orbits"))
    assert read_document.text.split() == ["The", "Moon", "orbits"]


async def test_a_docx_gives_headings_paragraphs_and_tables_in_order(reader: DocumentProcess) -> None:
    read_document = await read(reader, media_types.DOCX, docx_of())
    assert read_document.title == "Orbits"
    assert read_document.text == "## The Moon\n\nIt orbits the Earth.\n\ndays | 27"


@pytest.mark.parametrize(
    ("mime_type", "content", "reason"),
    [
        (media_types.PDF, b"%PDF-1.7 and nothing else", "not a sound PDF"),
        (media_types.PDF, pdf_of(), "no text layer"),
        (media_types.PDF, encrypted_pdf(), "encrypted"),
        (media_types.DOCX, b"PK\x03\x04 and nothing else", "not a .docx"),
        (media_types.DOCX, b"\xd0\xcf\x11\xe0 old", "encrypted or an old .doc"),
        (media_types.DOCX, bomb(), "bomb"),
        (media_types.TEXT, b" \n\t ", "no text"),
        (media_types.TEXT, b"\x7fELF\x00\x00", "binary"),
    ],
    ids=["broken pdf", "empty pdf", "locked pdf", "broken docx", "old doc", "bomb", "blank", "binary"],
)
async def test_a_document_that_cannot_be_read_says_why_and_the_next_one_is_read(
    reader: DocumentProcess, mime_type: str, content: bytes, reason: str
) -> None:
    with pytest.raises(UnreadableDocumentError, match=reason):
        await read(reader, mime_type, content)
    assert (await read(reader, media_types.TEXT, b"fine")).text == "fine"


async def test_a_document_that_takes_too_long_is_given_up_and_the_next_one_is_read() -> None:
    reader = make_reader(timeout_s=1.5)
    try:
        await read(reader, media_types.TEXT, b"warm")
        # Nesting this deep takes the parser minutes.
        with pytest.raises(UnreadableDocumentError, match="took longer"):
            await read(reader, media_types.HTML, b"<div>" * 200_000)
        assert (await read(reader, media_types.TEXT, b"fine")).text == "fine"
    finally:
        await reader.close()


@pytest.mark.parametrize(
    ("mime_type", "name", "expected"),
    [
        ("", "A/B.MD", media_types.MARKDOWN),
        ("text/html; charset=utf-8", "page", media_types.HTML),
        ("", "x.docx", media_types.DOCX),
    ],
)
def test_a_type_is_taken_as_given_or_from_the_ending(mime_type: str, name: str, expected: str) -> None:
    assert media_types.media_type(mime_type, name, field="f") == expected


@pytest.mark.parametrize(("mime_type", "name"), [("", "x.exe"), ("", "x"), ("image/png", "x.md")])
def test_a_type_that_is_not_read_is_refused_with_those_that_are(mime_type: str, name: str) -> None:
    with pytest.raises(InvalidArgument, match=r"\.pdf.*text/markdown") as refusal:
        media_types.media_type(mime_type, name, field="header.mime_type")
    assert refusal.value.reason == "DOCUMENT_TYPE_NOT_READ"
    assert refusal.value.field_violations[0].field == "header.mime_type"
