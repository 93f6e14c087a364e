"""API keys: how they are made, kept and checked.

A key reads `qk_<id>_<secret>`: 12 hex digits that find it, and 64 (256 bits) that prove it. What is kept is a
salted BLAKE2b of the whole text. A slow hash would add nothing: 256 random bits cannot be guessed.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime

from services.gateway.domain.identity import ALL_SCOPES, TENANTS_SCOPE, Identity

PREFIX = "qk_"
MAX_TEXT_CHARS = 256
_KEY_ID = re.compile(r"qk_[0-9a-f]{12}")
_ID_BYTES, _SECRET_BYTES, _SALT_BYTES, _DIGEST_BYTES = 6, 32, 16, 32


@dataclass(frozen=True, slots=True, kw_only=True)
class FormerSecret:
    """A key's secret before its last rotation, which is accepted until `expire_time`."""

    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)
    expire_time: datetime

    def matches(self, text: str, now: datetime) -> bool:
        """True for the text of this secret in its time."""
        return hmac.compare_digest(_digest(text, self.salt), self.digest) and now < self.expire_time


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey(Identity):
    """A key as it is kept: everything but its text.

    Attributes:
        former: The secret that a rotation replaced, while the two overlap.
    """

    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)
    revoke_time: datetime | None = None
    former: FormerSecret | None = None

    def admits(self, text: str, now: datetime) -> bool:
        """True for the text of a live key, or for its former text in the overlap; always two hashes."""
        is_current = self.matches(text)
        is_former = (self.former or _NO_FORMER).matches(text, now)
        return (is_current or is_former) and self.is_live(now)

    def allows_tenants(self) -> bool:
        """Whether its holder operates the suite; no key that is made for another tenant is given these."""
        return not self.scopes.isdisjoint({ALL_SCOPES, TENANTS_SCOPE})

    def matches(self, text: str) -> bool:
        """True for the present text of this key; takes the same time for every other one."""
        return hmac.compare_digest(_digest(text, self.salt), self.digest)

    def is_live(self, now: datetime) -> bool:
        """False once it has expired, and from its revocation on, by whichever clock that was written."""
        return self.revoke_time is None and (self.expire_time is None or now < self.expire_time)


def make_key(*, tenant: str, scopes: frozenset[str]) -> tuple[ApiKey, str]:
    """A new key and its text, which is nowhere else."""
    text = make_text(f"{PREFIX}{secrets.token_hex(_ID_BYTES)}")
    return seal_key(text, tenant=tenant, scopes=scopes), text


def make_text(key_id: str) -> str:
    """A new text of a key with that id."""
    return f"{key_id}_{secrets.token_hex(_SECRET_BYTES)}"


def seal_key(text: str, *, tenant: str, scopes: frozenset[str]) -> ApiKey:
    """The form in which a key's text is kept, under a new salt."""
    salt, digest = seal_text(text)
    return ApiKey(id=key_id_of(text), tenant=tenant, scopes=scopes, salt=salt, digest=digest)


def seal_text(text: str) -> tuple[bytes, bytes]:
    """A new salt, and the digest of the text under it."""
    salt = secrets.token_bytes(_SALT_BYTES)
    return salt, _digest(text, salt)


def is_key_id(text: str) -> bool:
    """Whether it has the form of a key's id."""
    return _KEY_ID.fullmatch(text) is not None


def key_id_of(text: str) -> str:
    """The public part of a key's text; empty for a text that is no key."""
    if len(text) > MAX_TEXT_CHARS or not text.isascii() or not text.isprintable():
        return ""
    key_id, _, secret = text.rpartition("_")
    return key_id if key_id.startswith(PREFIX) and len(secret) == 2 * _SECRET_BYTES else ""


NOBODY = ApiKey(
    id="",
    tenant="",
    scopes=frozenset(),
    salt=secrets.token_bytes(_SALT_BYTES),
    digest=secrets.token_bytes(_DIGEST_BYTES),
)
"""Stands in for a key that does not exist, so that an unknown key costs what a wrong one does."""

_NO_FORMER = FormerSecret(
    salt=secrets.token_bytes(_SALT_BYTES),
    digest=secrets.token_bytes(_DIGEST_BYTES),
    expire_time=datetime.min.replace(tzinfo=UTC),
)


def _digest(text: str, salt: bytes) -> bytes:
    return hashlib.blake2b(text[:MAX_TEXT_CHARS].encode(), key=salt, digest_size=_DIGEST_BYTES).digest()
