"""An issuer of JWTs: keys, tokens good and bad, and a JWKS that is served over real HTTP."""

import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

ISSUER = "https://issuer.example"
AUDIENCE = "quartet"


def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def jwk_of(key: Any, kid: str, **members: object) -> dict[str, Any]:
    """A private key's public JWK."""
    kinds: list[tuple[type, Any]] = [
        (rsa.RSAPrivateKey, jwt.algorithms.RSAAlgorithm),
        (ec.EllipticCurvePrivateKey, jwt.algorithms.ECAlgorithm),
        (ed25519.Ed25519PrivateKey, jwt.algorithms.OKPAlgorithm),
    ]
    writer = next(writer for kind, writer in kinds if isinstance(key, kind))
    return {**writer.to_jwk(key.public_key(), as_dict=True), "kid": kid, **members}


def b64(data: bytes | str | dict[str, Any]) -> str:
    raw = (
        json.dumps(data).encode()
        if isinstance(data, dict)
        else data.encode()
        if isinstance(data, str)
        else data
    )
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@dataclass(slots=True)
class Issuer:
    """Signs with `key` under the key id `kid`; what it publishes can be changed at any time."""

    key: Any = field(default_factory=rsa_key)
    kid: str = "k1"
    keys: list[dict[str, Any]] = field(default_factory=list)
    fetches: int = 0
    answer: bytes | None = None
    """Published instead of the keys."""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    url: str = ""

    def __post_init__(self) -> None:
        self.keys = self.keys or [jwk_of(self.key, self.kid)]

    def key_set(self) -> bytes:
        return self.answer if self.answer is not None else json.dumps({"keys": self.keys}).encode()

    def claims(self, **changed: object) -> dict[str, Any]:
        """Those of a good token, with some changed; None leaves one out."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "ada",
            "exp": now + 300,
            "iat": now,
            "tenant": "acme",
            "scope": "openid quartet:*",
        } | changed
        return {name: value for name, value in claims.items() if value is not None}

    def token(
        self, *, algorithm: str = "RS256", header: dict[str, Any] | None = None, **changed: object
    ) -> str:
        """A good token, unless something is changed."""
        headers = {"kid": self.kid} | (header or {})
        return jwt.encode(self.claims(**changed), self.key, algorithm=algorithm, headers=headers)

    @asynccontextmanager
    async def serve(self) -> AsyncIterator["Issuer"]:
        """Publishes the keys on a free port, at `url`."""

        async def publish(_: web.Request) -> web.Response:
            self.fetches += 1
            return web.Response(body=self.key_set(), status=self.status, headers=self.headers)

        app = web.Application()
        app.router.add_get("/keys", publish)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/keys"
        try:
            yield self
        finally:
            await runner.cleanup()
