"""What the response log is made of."""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

_LENGTH = struct.Struct(">I")


class Slot(NamedTuple):
    """Where an answer is kept: a tenant's idempotency key."""

    tenant: str
    key: str


class Kind(Enum):
    """What an entry says; after the last three nothing follows from the same owner."""

    CLAIMED = "c"
    GOING = "g"
    DONE = "d"
    FAILED = "f"
    CUT = "x"
    """The answer grew too long to be kept: this stands in place of all entries before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One piece of an answer.

    Attributes:
        cursor: Its place in the log, for reading on behind it.
        owner: Who makes the answer; in CLAIMED and CUT only, as is the fingerprint.
        start: The number of the first of its messages, counted from 0.
        messages: Of the answer; of FAILED the error alone.
    """

    kind: Kind
    cursor: str = ""
    owner: str = ""
    fingerprint: str = ""
    start: int = 0
    messages: tuple[bytes, ...] = ()


class StoreUnavailableError(Exception):
    """The store of answers cannot be reached now, or not in time."""


def pack(messages: Iterable[bytes]) -> bytes:
    """Messages one after the other, each behind its length as four bytes."""
    return b"".join(part for message in messages for part in (_LENGTH.pack(len(message)), message))


def unpack(data: bytes) -> Iterator[bytes]:
    """The messages that `pack` took."""
    place = 0
    while place < len(data):
        (length,) = _LENGTH.unpack_from(data, place)
        place += _LENGTH.size
        yield data[place : place + length]
        place += length
