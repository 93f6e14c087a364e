import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import FrameType

import pytest

from services.gateway.domain.identification import Identification
from services.gateway.domain.keys import FormerSecret, _digest, make_key, make_text, seal_text
from services.kit.errors import Unauthenticated
from tests.contract.gateway.neighbours import FakeKeys
from tests.doubles.hostile_credentials import TEXTS, UNKNOWN_KEY, UNPRINTABLE, jwts, wrong_secret
from tests.doubles.issuer import Issuer
from tests.unit.gateway.test_jwts import reading

DIGEST = _digest.__code__


@dataclass(slots=True)
class Work:
    """What refusing a text took."""

    look_ups: int
    hashes: int
    reason: str = field(default="", compare=False)


class Hashes:
    """Counts the hashes of credentials that this thread makes."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> "Hashes":
        sys.setprofile(self._see)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _see(self, frame: FrameType, event: str, _: object) -> None:
        self.count += event == "call" and frame.f_code is DIGEST


@asynccontextmanager
async def gate(store: FakeKeys, issuer: Issuer) -> AsyncIterator[Identification]:
    async with reading(issuer, algorithms="RS256,ES256,EdDSA", leeway_s=30) as reader:
        yield Identification(store, reader)


async def refuse(identification: Identification, store: FakeKeys, text: str) -> Work:
    store.looked_up.clear()
    with Hashes() as hashes, pytest.raises(Unauthenticated) as caught:
        await identification.identify(text)
    return Work(len(store.looked_up), hashes.count, caught.value.reason)


async def test_every_hostile_credential_costs() -> None:
    key, text = make_key(tenant="acme", scopes=frozenset({"*"}))
    ended, ended_text = make_key(tenant="acme", scopes=frozenset({"*"}))
    ended = replace(ended, revoke_time=datetime.now(UTC))
    expired, expired_text = make_key(tenant="acme", scopes=frozenset({"*"}))
    expired = replace(expired, expire_time=datetime.now(UTC) - timedelta(seconds=1))
    store, issuer = FakeKeys(key, ended, expired), Issuer()
    hostile = {**TEXTS, **UNPRINTABLE, **jwts(issuer)}
    hostile |= {"revoked": ended_text, "expired key": expired_text, "wrong secret": wrong_secret(key.id)}
    async with gate(store, issuer) as identification:
        plain = await refuse(identification, store, UNKNOWN_KEY)
        assert (plain.look_ups, plain.hashes) == (1, 4)
        found = {name: await refuse(identification, store, each) for name, each in hostile.items()}
        assert await identification.identify(text) is key
        again = await refuse(identification, store, wrong_secret(key.id))
        assert again == plain
        assert (await identification.identify(issuer.token())).tenant == "acme"
    assert {name: work for name, work in found.items() if work != plain} == {}
    assert len(hostile) > 100
    assert {work.reason for work in found.values()} == {"INVALID_API_KEY", "INVALID_TOKEN"}


async def test_a_token_of_a_tenant_that_is_gone_is_refused() -> None:
    key, _ = make_key(tenant="acme", scopes=frozenset({"*"}))
    store, issuer = FakeKeys(key), Issuer()
    text = issuer.token()
    async with gate(store, issuer) as identification:
        await identification.identify(text)
        await identification.identify(text)
        assert store.looked_up_tenants == ["acme"]
        store.tenants.clear()
        identification._tenants._found.clear()
        with pytest.raises(Unauthenticated, match="existing tenant"):
            await identification.identify(text)


async def test_a_new_secret_is_known_at_once_though_its_key_was_looked_up_a_moment_ago() -> None:
    key, old = make_key(tenant="acme", scopes=frozenset({"*"}))
    store = FakeKeys(key)
    identification = Identification(store)
    await identification.identify(old)
    new = make_text(key.id)
    salt, digest = seal_text(new)
    former = FormerSecret(
        salt=key.salt, digest=key.digest, expire_time=datetime.now(UTC) + timedelta(hours=1)
    )
    store.keys[key.id] = replace(key, salt=salt, digest=digest, former=former)
    assert (await identification.identify(new)).id == key.id
    assert (await identification.identify(old)).id == key.id
    assert store.looked_up == [key.id, key.id]
