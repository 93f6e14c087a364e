import re

from selectolax.lexbor import LexborHTMLParser, LexborNode

from services.pipeline.adapters.documents.text import decode
from services.pipeline.domain.document import UnreadableDocumentError

MAX_NODES = 2_000_000

_UNREAD = "script, style, noscript, template, svg, iframe, nav, form, head, [hidden], [aria-hidden=true]"
_BLOCKS = frozenset(
    """
    address article aside blockquote body caption dd details div dl dt fieldset figcaption figure footer h1
    h2 h3 h4 h5 h6 header hr li main ol p pre section summary table tbody tfoot thead tr ul
    """.split()  # noqa: SIM905 - names read better in lines
)
_PARAGRAPHS = _BLOCKS - set("body caption dd dt li tbody tfoot thead tr".split())  # noqa: SIM905 - as above
_HEADING = re.compile(r"h([1-6])")
_META_CHARSET = re.compile(rb"<meta[^>]{0,256}charset=[\"']?([A-Za-z0-9_-]{1,40})", re.IGNORECASE)
_SPACES = re.compile(r"[ \t\n\r\f\u00a0]+")


def read(content: bytes) -> tuple[str, str]:
    """The words that a reader sees, a line for each block; headings get the `#` marks of Markdown."""
    tree = LexborHTMLParser(_decode(content))
    found = tree.css_first("title")
    title = _SPACES.sub(" ", found.text()).strip() if found is not None else ""
    root = tree.body
    if root is None:
        return title, ""
    for node in tree.css(_UNREAD):
        if node.tag not in {"body", "html"}:
            node.decompose()
    if not title and (heading := tree.css_first("h1")) is not None:
        title = _SPACES.sub(" ", heading.text()).strip()
    return title, "\n".join(_lines(root))


def _decode(content: bytes) -> str:
    if declared := _META_CHARSET.search(content[:4096]):
        try:
            return content.decode(declared[1].decode("ascii"), errors="replace")
        except LookupError:
            pass
    return decode(content)


def _lines(root: LexborNode) -> list[str]:
    lines = _Lines()
    nodes = 0
    # An explicit walk: hostile pages nest deeper than Python's stack.
    node: LexborNode | None = root
    while node is not None:
        nodes += 1
        if nodes > MAX_NODES:
            raise UnreadableDocumentError(f"it has more than {MAX_NODES:,} elements: split the document")
        lines.enter(node)
        following = node.child
        while following is None:
            lines.leave(node)
            if node.mem_id == root.mem_id or node.parent is None:
                break
            following = node.next
            if following is None:
                node = node.parent
        node = following
    return lines.finished


class _Lines:
    """The lines of a page while it is walked through."""

    def __init__(self) -> None:
        self.finished: list[str] = []
        self._words: list[str] = []
        self._prefix = ""

    def enter(self, node: LexborNode) -> None:
        tag = node.tag or ""
        if tag == "-text":
            self._words.append(node.text(deep=False) or "")
        elif tag == "br":
            self._end_line(blank=False)
        elif tag in _BLOCKS:
            self._end_line(blank=tag in _PARAGRAPHS)
            level = _HEADING.fullmatch(tag)
            self._prefix = "#" * int(level[1]) + " " if level else "- " if tag == "li" else ""

    def leave(self, node: LexborNode) -> None:
        if node.tag in _BLOCKS:
            self._end_line(blank=node.tag in _PARAGRAPHS)
        elif node.tag in {"td", "th"}:
            self._words.append(" ")

    def _end_line(self, *, blank: bool) -> None:
        line = _SPACES.sub(" ", "".join(self._words)).strip()
        self._words.clear()
        if line:
            self.finished.append(self._prefix + line)
            self._prefix = ""
        if blank and self.finished and self.finished[-1]:
            self.finished.append("")
