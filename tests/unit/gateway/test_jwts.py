import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from services.gateway.adapters.jwt.key_set import KeySet, read_keys
from services.gateway.adapters.jwt.key_sources import FetchError, key_source
from services.gateway.adapters.jwt.tokens import Issuer as Trusted
from services.gateway.adapters.jwt.tokens import JwtReader, read_algorithms
from services.gateway.settings import Settings
from services.gateway.wiring import build
from services.kit.errors import Unavailable
from services.kit.settings import SettingsError
from tests.doubles.issuer import AUDIENCE, ISSUER, Issuer, jwk_of, rsa_key

ALL = "RS256,RS384,RS512,PS256,PS384,PS512,ES256,ES384,ES512,EdDSA"


def now() -> datetime:
    return datetime.now(UTC)


@asynccontextmanager
async def reading(
    issuer: Issuer, *, algorithms: str = ALL, leeway_s: float = 0, clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[JwtReader]:
    async def fetch() -> bytes:
        issuer.fetches += 1
        return issuer.key_set()

    keys = KeySet(fetch, refresh_s=300, clock=clock)
    trusted = Trusted(
        name=ISSUER,
        audience=AUDIENCE,
        algorithms=read_algorithms(algorithms),
        leeway=timedelta(seconds=leeway_s),
        tenant_claim="tenant",
        scope_claim="scope",
        scope_prefix="quartet:",
    )
    yield JwtReader(trusted, keys)
    await keys.close()


async def test_a_good_token_speaks_for_its_tenant_with_its_scopes() -> None:
    issuer = Issuer()
    async with reading(issuer) as jwts:
        holder = await jwts.read(
            issuer.token(scope="openid quartet:rpc:Generate quartet:model:gpt-4o"), now()
        )
        again = await jwts.read(issuer.token(scope=["quartet:*", 7], aud=["other", AUDIENCE]), now())
        other = await jwts.read(issuer.token(sub="bob"), now())
    assert holder is not None
    assert again is not None
    assert other is not None
    assert holder.tenant == "acme"
    assert holder.scopes == {"rpc:Generate", "model:gpt-4o"}
    assert again.scopes == {"*"}
    assert holder.id == again.id != other.id
    assert len(holder.id) == len("jwt_") + 24


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (rsa_key(), "RS256"),
        (rsa_key(), "RS512"),
        (rsa_key(), "PS384"),
        (ec.generate_private_key(ec.SECP256R1()), "ES256"),
        (ec.generate_private_key(ec.SECP384R1()), "ES384"),
        (ec.generate_private_key(ec.SECP521R1()), "ES512"),
        (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
    ],
)
async def test_a_signature_is_accepted_where_its_algorithm_is(key: object, algorithm: str) -> None:
    issuer = Issuer(key=key)
    text = issuer.token(algorithm=algorithm)
    async with reading(issuer, algorithms=algorithm) as jwts:
        assert await jwts.read(text, now()) is not None
    rest = ",".join(name for name in ALL.split(",") if name != algorithm)
    async with reading(issuer, algorithms=rest) as jwts:
        assert await jwts.read(text, now()) is None


async def test_a_key_signs_by_the_algorithm_it_is_published_for() -> None:
    key = rsa_key()
    issuer = Issuer(key=key, keys=[jwk_of(key, "k1", alg="RS256")])
    async with reading(issuer) as jwts:
        assert await jwts.read(issuer.token(algorithm="RS256"), now()) is not None
        assert await jwts.read(issuer.token(algorithm="PS256"), now()) is None


@pytest.mark.parametrize("names", ["", "none", "HS256", "RS256,HS512", "RS256,none", "rs256"])
def test_unsafe_algorithms_cannot_be_allowed(names: str) -> None:
    with pytest.raises(ValueError, match="must name some of"):
        read_algorithms(names)


async def test_the_leeway_bears_with_clocks_and_no_longer() -> None:
    issuer = Issuer()
    end = int(time.time()) - 10
    async with reading(issuer, leeway_s=30) as jwts:
        holder = await jwts.read(issuer.token(exp=end), now())
        assert holder is not None
        assert holder.expire_time == datetime.fromtimestamp(end + 30, UTC)
    async with reading(issuer, leeway_s=5) as jwts:
        assert await jwts.read(issuer.token(exp=end), now()) is None


async def test_a_verified_token_still_ends_at_its_time() -> None:
    issuer = Issuer()
    text = issuer.token()
    async with reading(issuer) as jwts:
        assert await jwts.read(text, now()) is await jwts.read(text, now())
        assert await jwts.read(text, now() + timedelta(seconds=301)) is None


async def test_a_withdrawn_key_ends_the_tokens_that_it_verified() -> None:
    issuer, moment = Issuer(), [0.0]
    text = issuer.token()
    async with reading(issuer, clock=lambda: moment[0]) as jwts:
        assert await jwts.read(text, now()) is not None
        issuer.keys = [jwk_of(rsa_key(), "k2")]
        moment[0] = 11.0
        assert await jwts.read(issuer.token(header={"kid": "k3"}), now()) is None
        assert await jwts.read(text, now()) is None


async def test_unknown_keys_are_looked_for_once_within_the_floor() -> None:
    issuer, moment = Issuer(), [0.0]
    async with reading(issuer, clock=lambda: moment[0]) as jwts:
        for number in range(50):
            assert await jwts.read(issuer.token(header={"kid": f"x{number}"}), now()) is None
        assert issuer.fetches == 1
        new = rsa_key()
        issuer.keys.append(jwk_of(new, "k2"))
        moment[0] = 10.0
        assert await jwts.read(Issuer(key=new, kid="k2").token(), now()) is not None
        assert await jwts.read(issuer.token(), now()) is not None
    assert issuer.fetches == 2


async def test_a_key_set_that_cannot_be_read_leaves_the_last_good_one() -> None:
    issuer, moment = Issuer(), [0.0]
    async with reading(issuer, clock=lambda: moment[0]) as jwts:
        assert await jwts.read(issuer.token(), now()) is not None
        for bad in (b"", b"[]", b'{"keys": 3}', b'{"keys": []}', b"{" * 1000):
            issuer.answer = bad
            moment[0] += 1000
            assert await jwts.read(issuer.token(sub=repr(bad)), now()) is not None
            assert await jwts.read(issuer.token(header={"kid": "x"}), now()) is None
    assert issuer.fetches == 6


async def test_an_issuer_that_was_never_there_is_told_of_as_such() -> None:
    issuer = Issuer(answer=b"")
    async with reading(issuer) as jwts:
        with pytest.raises(Unavailable) as caught:
            await jwts.read(issuer.token(), now())
        assert await jwts.read("no token", now()) is None
    assert caught.value.reason == "JWT_KEYS_UNAVAILABLE"


def test_only_keys_that_verify_strong_signatures_are_taken() -> None:
    good = rsa_key()
    entries = [
        jwk_of(good, "good", use="sig"),
        jwk_of(rsa_key(1024), "short"),
        jwk_of(good, "for encryption", use="enc"),
        jwk_of(good, "signs only", key_ops=["sign"]),
        jwk_of(good, "mac", alg="HS256"),
        {"kty": "oct", "k": "c2VjcmV0", "kid": "secret"},
        {"kty": "RSA", "n": "x", "e": 3, "kid": "broken"},
        {"kty": "EC", "crv": ["P-256"], "kid": "odd"},
        jwk_of(good, "alg as a list", alg=["RS256"]),
        jwk_of(good, "no list of uses", key_ops=None),
        "no object",
    ]
    assert set(read_keys(json.dumps({"keys": entries}).encode())) == {"good"}


async def test_keys_come_from_a_file_or_from_a_server(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(b"{}")
    assert await key_source(str(path))() == b"{}"
    async with Issuer().serve() as issuer:
        assert await key_source(issuer.url)() == issuer.key_set()
        issuer.answer = b"x" * (256 * 1024 + 1)
        with pytest.raises(FetchError, match="longer"):
            await key_source(issuer.url)()
        issuer.answer, issuer.status, issuer.headers = b"", 302, {"location": issuer.url}
        with pytest.raises(FetchError, match="302"):
            await key_source(issuer.url)()
    with pytest.raises(FetchError, match="does not answer"):
        await key_source(issuer.url)()
    with pytest.raises(FetchError, match="cannot read"):
        await key_source(str(tmp_path / "none.json"))()


@pytest.mark.parametrize("place", ["http://issuer.example/keys", "ftp://127.0.0.1/keys", "file:///etc/keys"])
def test_keys_are_never_taken_from_an_unsafe_place(place: str) -> None:
    with pytest.raises(ValueError, match="https"):
        key_source(place)


async def test_half_a_configuration_is_refused_with_the_missing_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GATEWAY_JWT_ISSUER", ISSUER)
    with pytest.raises(SettingsError, match="GATEWAY_JWT_AUDIENCE and GATEWAY_JWT_KEY_SET"):
        Settings.load()
    settings = Settings(
        jwt_issuer=ISSUER, jwt_audience="a", jwt_key_set="http://x/", database_url="postgresql://"
    )
    with pytest.raises(SettingsError, match="GATEWAY_JWT_KEY_SET: must be"):
        async with build(settings):
            pass
