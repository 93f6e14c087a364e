import io
import logging

from pypdf import PdfReader
from pypdf.errors import DependencyError, FileNotDecryptedError, LimitReachedError, PyPdfError

from services.pipeline.domain.document import UnreadableDocumentError

MAX_PAGES = 10_000

# pypdf tells of each of a file's small faults; what matters comes as an exception.
logging.getLogger("pypdf").setLevel(logging.CRITICAL)


def read(content: bytes) -> tuple[str, str]:
    """The text layer of each page, pages apart by a blank line; pictures of text are not read."""
    try:
        reader = PdfReader(io.BytesIO(content))
        if reader.is_encrypted and not reader.decrypt(""):
            raise UnreadableDocumentError("it is encrypted: remove its password and send it again")
        if len(reader.pages) > MAX_PAGES:
            raise UnreadableDocumentError(f"it has more than {MAX_PAGES:,} pages: split the document")
        title = str(reader.metadata.title or "") if reader.metadata else ""
        text = "\n\n".join(page.extract_text() for page in reader.pages)
    except (FileNotDecryptedError, DependencyError) as error:
        raise UnreadableDocumentError("it is encrypted: remove its password and send it again") from error
    except LimitReachedError as error:
        raise UnreadableDocumentError(
            "it unpacks to far more than its size: this looks like a bomb"
        ) from error
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
        # pypdf lets Python's own errors out of malformed files.
        raise UnreadableDocumentError(
            f"it is not a sound PDF ({error}): save it anew and send it again"
        ) from error
    if not text.strip():
        raise UnreadableDocumentError(
            "it has no text layer, only pictures: run a text recognition (OCR) first"
        )
    return title.strip(), text
