import base64
import binascii
from collections.abc import Callable, Sequence
from typing import TypeVar

from services.kit.errors import InvalidArgument

DEFAULT_PAGE_SIZE = 100

Entry = TypeVar("Entry")


def page_limit(page_size: int) -> int:
    """Entries of a page; 0 means the default."""
    return page_size or DEFAULT_PAGE_SIZE


def read_token(token: str) -> str:
    """The key after which the page begins; raises InvalidArgument for a token that no answer held."""
    try:
        key = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True).decode("utf-8")
        if "\x00" in key:
            raise ValueError("PostgreSQL knows no such text")
        return key
    except (binascii.Error, ValueError):
        raise InvalidArgument.field(
            "page_token", "is not from an earlier answer: leave it empty to start"
        ) from None


def cut_page(entries: Sequence[Entry], limit: int, key: Callable[[Entry], str]) -> tuple[list[Entry], str]:
    """A page out of one entry more than asked for, and the token of the next; empty at the end."""
    page = list(entries[:limit])
    if len(entries) <= limit:
        return page, ""
    return page, base64.urlsafe_b64encode(key(page[-1]).encode("utf-8")).decode("ascii")
