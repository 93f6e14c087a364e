"""What may be asked of keys: names, ids, times and limits, read from requests."""

from datetime import timedelta

from google.protobuf.duration_pb2 import Duration

from quartet.gateway.v1 import key_pb2
from services.gateway.domain.keys import is_key_id
from services.kit.errors import InvalidArgument, NotFound

MAX_LIFETIME = timedelta(days=3650)
DEFAULT_OVERLAP = timedelta(hours=24)
MAX_OVERLAP = timedelta(days=90)
MAX_LIMIT = 2**63 - 1
DEFAULT_PAGE_SIZE = 100
_MAX_DIGITS = 19


def read_name(name: str) -> str:
    """The name of a key, which people read in lists: one line that shows what it holds."""
    if not name.isprintable() or not name.strip():
        raise InvalidArgument.field(
            "name", "must be one line of visible characters: leave control characters out", reason=_REASON
        )
    return name.strip()


def read_lifetime(request: key_pb2.CreateKeyRequest) -> timedelta | None:
    """How long the key lives; None for one without an end."""
    if not request.HasField("lifetime"):
        return None
    lifetime = _read_duration("lifetime", request.lifetime, MAX_LIFETIME)
    if not lifetime:
        raise InvalidArgument.field(
            "lifetime", "must be above zero: leave it out for a key without an end", reason=_REASON
        )
    return lifetime


def read_overlap(request: key_pb2.RotateKeyRequest) -> timedelta:
    """How long the old secret still works; zero for not at all."""
    if not request.HasField("overlap"):
        return DEFAULT_OVERLAP
    return _read_duration("overlap", request.overlap, MAX_OVERLAP)


def read_limits(limits: key_pb2.Limits) -> key_pb2.Limits:
    """The limits, which must be numbers that a store can hold."""
    for field, value in limits.ListFields():
        if value > MAX_LIMIT:
            raise InvalidArgument.field(
                f"limits.{field.name}", f"must be at most {MAX_LIMIT}: leave it out for none", reason=_REASON
            )
    return limits


def read_page_token(token: str) -> str:
    """The id of the last key of the page before; empty for the first page."""
    if token and not is_key_id(token):
        raise InvalidArgument.field(
            "page_token", "is not from an earlier answer: leave it empty to start", reason=_REASON
        )
    return token


def read_number_token(token: str) -> int | None:
    """The number of the last entry of the page before; None for the first page."""
    if not token:
        return None
    if not (token.isascii() and token.isdigit() and len(token) <= _MAX_DIGITS and int(token) <= MAX_LIMIT):
        raise InvalidArgument.field(
            "page_token", "is not from an earlier answer: leave it empty to start", reason=_REASON
        )
    return int(token)


def read_key_id(key_id: str) -> str:
    """A text with the form of a key's id; raises NotFound for another one."""
    if not is_key_id(key_id):
        raise no_such_key(key_id)
    return key_id


def no_such_key(key_id: str) -> NotFound:
    """The error for a key that the caller's tenant does not have."""
    return NotFound(
        f"there is no key {key_id!r}: `quartet keys list` shows those there are", reason="KEY_NOT_FOUND"
    )


_REASON = "INVALID_REQUEST"
_NANOS = 10**9


def _read_duration(field: str, duration: Duration, most: timedelta) -> timedelta:
    nanos = duration.seconds * _NANOS + duration.nanos
    if not 0 <= nanos <= most.total_seconds() * _NANOS:
        raise InvalidArgument.field(field, f"must be from zero to {most.days} days", reason=_REASON)
    return timedelta(microseconds=-(-nanos // 1000))
