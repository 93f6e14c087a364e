"""Credentials that nobody issued: injections, noise, near misses, and tricks that are played with JWTs."""

# ruff: noqa: RUF001 - look-alikes are the point

import hashlib
import hmac
import time
from typing import Any

from cryptography.hazmat.primitives import serialization

from services.gateway.domain.keys import make_text
from tests.doubles.issuer import Issuer, b64, jwk_of, rsa_key

UNKNOWN_KEY = "qk_0123456789ab_" + "0" * 64
"""Has every form of a key: what the others are measured by."""

TEXTS: dict[str, str] = {
    "sql: always true": "' OR '1'='1",
    "sql: comment": "admin'--",
    "sql: drop": "'; DROP TABLE gateway.api_keys; --",
    "sql: union": "' UNION SELECT * FROM gateway.api_keys --",
    "sql: sleep": "'; SELECT pg_sleep(10); --",
    "sql: wildcard": "%",
    "sql: underscores": "qk____________%_" + "_" * 64,
    "sql: quote in a key": "qk_' OR '1'='1_" + "0" * 64,
    "sql: backslash": "qk_\\'_" + "0" * 64,
    "sql: dollar": "$$qk$$",
    "nosql": '{"$ne": null}',
    "redis": "qk_x\\r\\nFLUSHALL",
    "shell": "$(cat /etc/passwd)",
    "template": "{{7*7}}",
    "format": "%s%s%s%n",
    "path": "../../../../etc/passwd",
    "ldap": "*)(uid=*))(|(uid=*",
    "xml": "<!DOCTYPE x [<!ENTITY y SYSTEM 'file:///etc/passwd'>]>",
    "log4j": "${jndi:ldap://127.0.0.1/a}",
    "wildcard": "*",
    "null word": "null",
    "undefined": "undefined",
    "true": "true",
    "prefix alone": "qk_",
    "empty secret": "qk_0123456789ab_",
    "short secret": "qk_0123456789ab_" + "0" * 63,
    "long secret": "qk_0123456789ab_" + "0" * 65,
    "upper case": "QK_0123456789AB_" + "0" * 64,
    "two prefixes": "qk_qk_0123456789ab_" + "0" * 64,
    "another vendor's": "sk-" + "0" * 48,
    "huge": "qk_" + "a" * 6000,
    "huge and in form": "qk_" + "0" * 5000 + "_" + "0" * 64,
    "only dots": "..",
    "many dots": "." * 500,
    "json": '{"alg":"none"}',
    "a hash": hashlib.sha256(b"x").hexdigest(),
}

UNPRINTABLE: dict[str, str] = {
    "nul": "\x00",
    "nul in a key": "qk_0123456789a\x00_" + "0" * 64,
    "nul at the end": UNKNOWN_KEY + "\x00",
    "new line": "qk_0123456789ab\n_" + "0" * 63,
    "escape": "\x1b[2J",
    "cyrillic": "ключ_" + "0" * 64,
    "full width": "ｑｋ_0123456789ab_" + "0" * 64,
    "homoglyph": "qk_0123456789аb_" + "0" * 64,
    "right to left": "\u202eqk_0123456789ab_" + "0" * 64,
    "zero width": "qk_\u200b0123456789ab_" + "0" * 64,
    "digits of another script": "qk_٠١٢٣٤٥٦٧٨٩ab_" + "0" * 64,
    "emoji": "🔑" * 100,
    "combining": "q\u0301k_0123456789ab_" + "0" * 64,
}
"""What HTTP and gRPC refuse to carry; the domain is to refuse it, too."""


def wrong_secret(key_id: str) -> str:
    """A text in form, of a key that exists."""
    return make_text(key_id)


def jwts(issuer: Issuer) -> dict[str, str]:
    """Tokens to be refused by whoever trusts the issuer."""
    now = int(time.time())
    good = issuer.token()
    head, body, signature = good.split(".")
    claims = b64(issuer.claims())
    stranger = Issuer(key=rsa_key(), kid=issuer.kid)
    public = issuer.key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )

    def unsigned(algorithm: object, end: str = "") -> str:
        return f"{b64({'alg': algorithm, 'typ': 'JWT', 'kid': issuer.kid})}.{claims}.{end}"

    def by_mac(secret: bytes, digest: str = "sha256", **header: Any) -> str:
        text = f"{b64({'alg': 'HS256', 'kid': issuer.kid} | header)}.{claims}"
        return f"{text}.{b64(hmac.new(secret, text.encode(), digest).digest())}"

    def by_stranger(**header: Any) -> str:
        return stranger.token(header=header)

    own_key = jwk_of(stranger.key, issuer.kid)
    return {
        "alg none": unsigned("none"),
        "alg None": unsigned("None"),
        "alg NONE with a signature": unsigned("NONE", signature),
        "alg empty": unsigned(""),
        "alg as a list": unsigned(["RS256"], signature),
        "alg as an object": unsigned({"RS256": True}, signature),
        "alg none, signed by the issuer": unsigned("none", signature),
        "HS256 with the public key": by_mac(public),
        "HS256 with the modulus": by_mac(issuer.keys[0]["n"].encode()),
        "HS256 with an empty secret": by_mac(b""),
        "HS512 said": by_mac(public, "sha512", alg="HS512"),
        "kid: path": by_stranger(kid="../../../../dev/null"),
        "kid: path, HS256 with nothing": by_mac(b"", kid="/dev/null"),
        "kid: SQL": by_stranger(kid="x' UNION SELECT 'secret' --"),
        "kid: command": by_stranger(kid="| cat /etc/passwd"),
        "kid: huge": by_stranger(kid="k" * 2000),
        "kid: empty": by_stranger(kid=""),
        "kid: unknown": by_stranger(kid="k2"),
        "jku": by_stranger(jku="http://127.0.0.1:1/keys"),
        "x5u": by_stranger(x5u="http://127.0.0.1:1/chain"),
        "jwk": by_stranger(jwk=own_key),
        "x5c": by_stranger(x5c=["MIIB"]),
        "crit": issuer.token(header={"crit": ["exp"]}),
        "b64 false": issuer.token(header={"crit": ["b64"], "b64": True}),
        "another key under the id": by_stranger(),
        "another algorithm": issuer.token(algorithm="PS256"),
        "expired": issuer.token(exp=now - 3600),
        "not yet": issuer.token(nbf=now + 3600),
        "issued in the future": issuer.token(iat=now + 3600),
        "wrong issuer": issuer.token(iss="https://evil.example"),
        "issuer with a slash": issuer.token(iss="https://issuer.example/"),
        "no issuer": issuer.token(iss=None),
        "wrong audience": issuer.token(aud="other"),
        "wrong audiences": issuer.token(aud=["other", "quartet2"]),
        "no audience": issuer.token(aud=None),
        "no exp": issuer.token(exp=None),
        "exp that is no number": issuer.token(exp="tomorrow"),
        "exp as a text": issuer.token(exp=str(now + 300)),
        "exp without end": issuer.token(exp=10**30),
        "no sub": issuer.token(sub=None),
        "no tenant": issuer.token(tenant=None),
        "tenant: list": issuer.token(tenant=["acme"]),
        "tenant: SQL": issuer.token(tenant="acme' OR '1'='1"),
        "tenant: unknown": issuer.token(tenant="nobody"),
        "no scope": issuer.token(scope=None),
        "scopes of others": issuer.token(scope="openid profile"),
        "scope in no form": issuer.token(scope="quartet:rpc:Generate quartet:colection:a"),
        "nested": f"{b64({'alg': 'RS256', 'cty': 'JWT', 'kid': issuer.kid})}.{b64(good)}.{signature}",
        "truncated": good[:-10],
        "no signature": f"{head}.{body}.",
        "two parts": f"{head}.{body}",
        "four parts": f"{good}.{signature}",
        "another body": f"{head}.{b64(issuer.claims(sub='eve'))}.{signature}",
        "no JSON": f"{b64('no json')}.{body}.{signature}",
        "a list for a header": f"{b64('[]')}.{body}.{signature}",
        "deep header": f"{b64('[' * 3000)}.{body}.{signature}",
        "padding": f"{head}=.{body}=.{signature}=",
        "huge token": issuer.token(padding="x" * 4500),
    }
