"""JWTs (RFC 7519) of one issuer, checked as RFC 8725 advises."""

import hashlib
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt

from services.gateway.adapters.jwt.key_set import ALGORITHMS, KeySet
from services.gateway.domain.identity import Identity
from services.gateway.domain.keys_scopes import read_scopes
from services.gateway.domain.tenants import is_tenant_id
from services.kit.errors import InvalidArgument

MAX_TOKEN_CHARS = 6144
"""All headers of a gRPC call have 8 KiB."""
MAX_KEY_ID_CHARS = 256
MAX_VERIFIED = 4096
VERIFIED_FOR = timedelta(seconds=60)
ID_PREFIX = "jwt_"
_ID_BYTES = 12
_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """Whose tokens are accepted, and how to read them.

    Attributes:
        scope_prefix: Marks the scopes that are meant for us, and is cut off; others are passed over.
    """

    name: str
    audience: str
    algorithms: frozenset[str]
    leeway: timedelta
    tenant_claim: str
    scope_claim: str
    scope_prefix: str


class JwtReader:
    """`Jwts` made real. A token that was verified a moment ago is not verified again; its end always is."""

    def __init__(self, issuer: Issuer, keys: KeySet) -> None:
        self._issuer = issuer
        self._keys = keys
        self._verified: OrderedDict[bytes, tuple[datetime, int, Identity]] = OrderedDict()
        self.remedy = (
            f"the token is not accepted: get a new one; it must be signed by {issuer.name} for the audience "
            f"{issuer.audience}, not have expired, name an existing tenant in `{issuer.tenant_claim}` and "
            f"scopes of this suite in `{issuer.scope_claim}`, as {issuer.scope_prefix}rpc:Generate"
        )

    async def read(self, text: str, now: datetime) -> Identity | None:
        if len(text) > MAX_TOKEN_CHARS or not _FORM.fullmatch(text):
            return None
        digest = hashlib.blake2b(text.encode(), digest_size=32).digest()
        held = self._verified.get(digest)
        if held is not None:
            until, version, known = held
            if now < until and version == self._keys.version:
                return known if known.is_live(now) else None
            del self._verified[digest]
        holder = await self._verify(text)
        if holder is None or not holder.is_live(now):
            return None
        self._verified[digest] = (now + VERIFIED_FOR, self._keys.version, holder)
        if len(self._verified) > MAX_VERIFIED:
            self._verified.popitem(last=False)
        return holder

    async def _verify(self, text: str) -> Identity | None:
        try:
            header = jwt.get_unverified_header(text)
        except (jwt.PyJWTError, RecursionError):
            return None
        algorithm, key_id = header.get("alg"), header.get("kid")
        # What the header says of where to find keys (jku, jwk, x5u, x5c) is never heeded.
        if not isinstance(algorithm, str) or algorithm not in self._issuer.algorithms or "crit" in header:
            return None
        if key_id is not None and not (isinstance(key_id, str) and len(key_id) <= MAX_KEY_ID_CHARS):
            return None
        key = await self._keys.find(key_id)
        if key is None or algorithm not in key.algorithms:
            return None
        try:
            claims = jwt.decode(
                text,
                key.loaded(algorithm),
                algorithms=[algorithm],
                audience=self._issuer.audience,
                issuer=self._issuer.name,
                leeway=self._issuer.leeway,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            return None
        return self._holder(claims)

    def _holder(self, claims: Mapping[str, Any]) -> Identity | None:
        tenant, scopes = claims.get(self._issuer.tenant_claim), self._scopes(claims)
        if not isinstance(tenant, str) or not is_tenant_id(tenant) or not scopes:
            return None
        subject = f"{self._issuer.name}\0{claims['sub']}".encode()
        try:
            end = datetime.fromtimestamp(claims["exp"], UTC) + self._issuer.leeway
        except (OverflowError, OSError, TypeError, ValueError):
            return None
        return Identity(
            id=f"{ID_PREFIX}{hashlib.blake2b(subject, digest_size=_ID_BYTES).hexdigest()}",
            tenant=tenant,
            scopes=scopes,
            expire_time=end,
        )

    def _scopes(self, claims: Mapping[str, Any]) -> frozenset[str]:
        """Ours among them; none where one of ours has no known form, since fewer scopes may allow more."""
        claim = claims.get(self._issuer.scope_claim)
        words = claim.split() if isinstance(claim, str) else claim if isinstance(claim, list) else []
        prefix = self._issuer.scope_prefix
        ours = [word for word in words if isinstance(word, str) and word.startswith(prefix)]
        try:
            return read_scopes([word.removeprefix(prefix) for word in ours])
        except InvalidArgument:
            return frozenset()


def read_algorithms(text: str) -> frozenset[str]:
    """The algorithms of a list with commas; raises ValueError for one that is not safe or not known."""
    names = frozenset(name.strip() for name in text.split(",") if name.strip())
    if not names or not names <= ALGORITHMS:
        raise ValueError(f"must name some of {', '.join(sorted(ALGORITHMS))}")
    return names
