"""An issuer's public keys: read, kept, and read again when they age or an unknown one is named."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jwt
import orjson

from services.gateway.adapters.jwt.key_sources import Fetch, FetchError
from services.kit.errors import Unavailable

FLOOR_S = 10.0
"""Between two attempts to read the keys, whatever unknown keys are named meanwhile."""
MAX_KEYS = 100
MIN_RSA_BITS = 2048
_CURVES: Mapping[str, str] = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
_RSA = frozenset(f"{family}{bits}" for family in ("RS", "PS") for bits in (256, 384, 512))
ALGORITHMS = _RSA | frozenset(_CURVES.values()) | {"EdDSA"}
"""All that may be allowed: signatures by a private key that never leaves the issuer."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A public key and the one way, or for RSA the ways, in which it signs."""

    algorithms: frozenset[str]
    data: Mapping[str, Any]

    def loaded(self, algorithm: str) -> jwt.PyJWK:
        """The key as the library takes it."""
        return jwt.PyJWK(dict(self.data), algorithm)


class KeySet:
    """The keys by their id. One read is under way at most; a failed one leaves the keys as they were.

    Args:
        refresh_s: Age after which they are read again, beside the calls that go on with them.
    """

    def __init__(
        self,
        fetch: Fetch,
        *,
        refresh_s: float,
        floor_s: float = FLOOR_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._refresh_s = refresh_s
        self._floor_s = floor_s
        self._clock = clock
        self._keys: Mapping[str, SigningKey] | None = None
        self._tried = float("-inf")
        self._reading: asyncio.Task[None] | None = None
        self.version = 0
        """Rises when the keys change: what was verified with the old ones must be verified again."""

    async def find(self, key_id: str | None) -> SigningKey | None:
        """The key of that id; None names the only one there is.

        Raises Unavailable when no keys were ever had.
        """
        found = self._find(key_id)
        if self._clock() - self._tried >= (self._floor_s if found is None else self._refresh_s):
            self.refresh()
        if found is None and self._reading is not None:
            await asyncio.shield(self._reading)
            found = self._find(key_id)
        if self._keys is None:
            raise Unavailable(
                "JWTs cannot be checked now, because the issuer's keys cannot be had: try again in a moment, "
                "or send an API key",
                reason="JWT_KEYS_UNAVAILABLE",
                retry_after_s=self._floor_s,
            )
        return found

    def refresh(self) -> None:
        """Begins to read the keys, unless that is under way."""
        if self._reading is None:
            self._tried = self._clock()
            self._reading = asyncio.create_task(self._read(), name="jwks")

    async def close(self) -> None:
        """Ends a read that is under way."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    def _find(self, key_id: str | None) -> SigningKey | None:
        keys = self._keys or {}
        if key_id is None:
            return next(iter(keys.values())) if len(keys) == 1 else None
        return keys.get(key_id)

    async def _read(self) -> None:
        try:
            keys = read_keys(await self._fetch())
        except FetchError as error:
            log.warning("the issuer's keys cannot be had; old ones stay", extra={"cause": str(error)})
        else:
            if keys != self._keys:
                self._keys = keys
                self.version += 1
                log.info("the issuer's keys", extra={"key_ids": sorted(keys)})
        finally:
            self._reading = None


def read_keys(data: bytes) -> dict[str, SigningKey]:
    """Keys of a JWKS (RFC 7517) that verify signatures we know; raises FetchError where there are none."""
    try:
        entries = orjson.loads(data)["keys"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise FetchError("it is no JWKS: a JSON object with `keys` is wanted") from None
    if not isinstance(entries, list) or len(entries) > MAX_KEYS:
        raise FetchError(f"its `keys` must be a list of at most {MAX_KEYS}")
    found: dict[str, SigningKey] = {}
    for entry in entries:
        try:
            key = _read_key(entry)
        except (
            jwt.PyJWTError,
            AttributeError,
            TypeError,
            ValueError,
        ):  # members of other types than the RFC's
            continue
        if key is not None:
            found[str(entry.get("kid", ""))] = key
    if not found:
        raise FetchError("it holds no key that verifies signatures")
    return found


def _read_key(entry: Mapping[str, Any]) -> SigningKey | None:
    """The key; None for one that verifies no signature we know. What the library raises, it raises, too."""
    if entry.get("use", "sig") != "sig" or "verify" not in entry.get("key_ops", ["verify"]):
        return None
    match entry.get("kty"), entry.get("crv"):
        case "RSA", _:
            algorithms = _RSA
        case "EC", str(curve) if curve in _CURVES:
            algorithms = frozenset({_CURVES[curve]})
        case "OKP", "Ed25519":
            algorithms = frozenset({"EdDSA"})
        case _:
            return None
    if "alg" in entry:
        algorithms &= {entry["alg"]}
    # A private key's parts have no place here, and would make the library load one.
    public = {name: entry[name] for name in ("kty", "crv", "x", "y", "n", "e") if name in entry}
    key = SigningKey(algorithms=algorithms, data=public)
    if not algorithms:
        return None
    loaded = key.loaded(min(algorithms)).key
    return None if getattr(loaded, "key_size", MIN_RSA_BITS) < MIN_RSA_BITS and "n" in public else key
