"""What a file costs in tokens: its pages, each with its text and as a picture.

Anthropic's "PDF support" says that each page is sent as text and as a picture, and that three pages cost
about 7,000 tokens (https://platform.claude.com/docs/en/build-with-claude/pdf-support, as of October 2026);
OpenAI's "File inputs" says the former. Which text a page has is not looked at: the count is an estimate.
"""

from services.gateway.domain.tokens.images import ImageFormula
from services.gateway.domain.tokens.pictures import Size

PAGE_TEXT_TOKENS = 765
PAGE_SIZE = Size(969, 1254)
"""A letter page as a picture, of 1,575 tokens at Anthropic: with the text, a third of the published 7,000."""
PAGE_BYTES = 48 * 1024
"""Of a page that cannot be counted."""
PAGES_BY_ADDRESS = 3
"""Of a file that is not here; Anthropic's example."""
MAX_PAGES = 600
"""That Anthropic takes in one request; more are refused by the model itself."""
_SCANNED_BYTES = 4 * 1024 * 1024
"""Some 5 ms of looking; the pages of the rest are taken as many as these."""


def page_tokens(images: ImageFormula) -> int:
    """The tokens of one page."""
    return PAGE_TEXT_TOKENS + images.tokens(PAGE_SIZE, "high")


def count_pages(data: bytes) -> int:
    """The pages of a PDF, counted by the objects that begin them where those are not compressed."""
    scanned = data if len(data) <= _SCANNED_BYTES else data[:_SCANNED_BYTES]
    pages = 0
    for word in (b"/Type/Page", b"/Type /Page"):
        # `/Pages`, the nodes of the tree, begin alike.
        pages += scanned.count(word) - scanned.count(word + b"s")
    pages = -(-pages * len(data) // max(1, len(scanned)))
    if pages == 0 or b"/ObjStm" in scanned:
        pages = max(pages, -(-len(data) // PAGE_BYTES))
    return min(pages, MAX_PAGES)
