from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.gateway.domain.keys import (
    ApiKey,
    FormerSecret,
    is_key_id,
    key_id_of,
    make_key,
    make_text,
    seal_key,
    seal_text,
)
from services.gateway.domain.recent import Recent

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOSTILE = [
    "",
    "' OR '1'='1",
    "qk_",
    "qk__",
    "qk_" + "0" * 12 + "_",
    "qk_" + "0" * 12 + "_" + "0" * 63,
    "\x00" * 80,
    "qk_\n" + "0" * 11 + "_" + "0" * 64,
    "ключ_" + "0" * 64,
    "x" * 10_000,
    "sk-" + "0" * 64,
]


def key_with(*scopes: str) -> ApiKey:
    return make_key(tenant="t", scopes=frozenset(scopes))[0]


class Store:
    def __init__(self, *keys: ApiKey) -> None:
        self.keys = {key.id: key for key in keys}
        self.look_ups = 0

    async def find(self, key_id: str) -> ApiKey | None:
        self.look_ups += 1
        return self.keys.get(key_id)


def test_a_key_matches_its_own_text_alone() -> None:
    key, text = make_key(tenant="t", scopes=frozenset({"*"}))
    other = make_key(tenant="t", scopes=frozenset({"*"}))[1]
    assert key.id == key_id_of(text) == text[:15]
    assert key.matches(text)
    assert not key.matches(other)
    assert not key.matches(text[:-1] + ("0" if text[-1] != "0" else "1"))


def test_what_is_kept_does_not_hold_the_secret() -> None:
    key, text = make_key(tenant="t", scopes=frozenset({"*"}))
    secret = text.rpartition("_")[2]
    kept = repr(key).encode() + key.salt + key.digest
    assert secret.encode() not in kept
    assert bytes.fromhex(secret) not in kept


def test_the_same_text_is_kept_differently_each_time() -> None:
    text = make_key(tenant="t", scopes=frozenset())[1]
    first, second = (seal_key(text, tenant="t", scopes=frozenset()) for _ in range(2))
    assert first.digest != second.digest
    assert first.matches(text)
    assert second.matches(text)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_that_is_no_key_has_no_id_and_never_matches(text: str) -> None:
    assert key_id_of(text) == ""
    assert not key_with("*").matches(text)
    assert not is_key_id(text)


def test_a_key_expires_at_its_time() -> None:
    key = replace(key_with("*"), expire_time=NOW)
    assert key.is_live(NOW - timedelta(seconds=1))
    assert not key.is_live(NOW)


def test_a_revocation_holds_at_once_though_clocks_differ() -> None:
    key = replace(key_with("*"), revoke_time=NOW)
    assert not key.is_live(NOW - timedelta(seconds=1))


def test_the_former_text_is_admitted_until_the_overlap_ends() -> None:
    key, old = make_key(tenant="t", scopes=frozenset({"*"}))
    new = make_text(key.id)
    salt, digest = seal_text(new)
    former = FormerSecret(salt=key.salt, digest=key.digest, expire_time=NOW)
    rotated = replace(key, salt=salt, digest=digest, former=former)
    before = NOW - timedelta(seconds=1)
    assert key_id_of(new) == key_id_of(old) == key.id
    assert [rotated.admits(text, before) for text in (old, new, make_text(key.id))] == [True, True, False]
    assert [rotated.admits(text, NOW) for text in (old, new)] == [False, True]
    assert not replace(rotated, revoke_time=NOW).admits(new, before)
    assert not replace(rotated, revoke_time=NOW).admits(old, before)


def test_only_a_scope_that_says_so_lets_a_key_see_keys() -> None:
    assert [key_with(scope).allows_keys() for scope in ("*", "keys", "rpc:ListKeys")] == [True, True, False]


def test_scopes_narrow_what_they_name_and_nothing_else() -> None:
    key = key_with("rpc:Generate", "collection:docs")
    assert key.allows_rpc("Generate")
    assert not key.allows_rpc("Embed")
    assert key.allows_target("collection", "docs")
    assert not key.allows_target("collection", "other")
    assert not key.allows_target("model", "gpt-4o")
    assert key_with("rpc:Generate").allows_target("model", "gpt-4o")
    assert key_with("*", "route:a").allows_target("route", "b")


@pytest.mark.parametrize(
    ("scopes", "routes", "models", "kept"),
    [
        ("*", True, None, False),
        ("* model:m", True, None, False),
        ("rpc:Generate", True, None, False),
        ("model:m model:a/b", True, ("a/b", "m"), True),
        ("model:m collection:docs", True, ("m",), True),
        ("route:x", False, None, False),
        ("route:x model:m", False, ("m",), False),
        ("route:auto model:m", True, ("m",), False),
        ("collection:docs", False, None, False),
    ],
)
def test_models_that_scopes_name_hold_the_routes_to_them(
    scopes: str, routes: bool, models: tuple[str, ...] | None, kept: bool
) -> None:
    key = key_with(*scopes.split())
    assert key.allows_target("route", "auto") is routes
    assert key.permitted_models() == models
    assert key.is_kept_to_models() is kept
    if models is not None:
        assert not key.allows_target("model", "other")
        assert key.allows_target("collection", "docs") is ("collection:docs" in scopes)


async def test_a_found_key_is_looked_up_again_after_its_age() -> None:
    key = key_with("*")
    store, now = Store(key), [0.0]
    ring = Recent(store.find, max_age_s=1, clock=lambda: now[0])
    assert await ring.find(key.id) is key
    now[0] = 0.6
    assert await ring.find(key.id) is key
    assert store.look_ups == 1
    store.keys.clear()
    now[0] = 1.0
    assert await ring.find(key.id) is None
    assert await ring.find(key.id) is None
    assert store.look_ups == 3


async def test_one_caller_renews_what_ages_while_the_others_are_served() -> None:
    key = key_with("*")
    store, now = Store(key), [0.0]
    ring = Recent(store.find, max_age_s=1, clock=lambda: now[0])
    await ring.find(key.id)
    now[0] = 0.7
    assert [ring.held(key.id) for _ in range(3)] == [None, key, key]
    now[0] = 1.0
    assert ring.held(key.id) is None, "the one that was to renew it failed"
    await ring.look_up(key.id)
    now[0] = 1.6
    assert ring.held(key.id) is key


async def test_the_ring_forgets_the_oldest_when_it_is_full() -> None:
    keys = [key_with("*") for _ in range(3)]
    store = Store(*keys)
    ring = Recent(store.find, max_found=2)
    for key in keys:
        await ring.find(key.id)
    await ring.find(keys[2].id)
    assert store.look_ups == 3
    await ring.find(keys[0].id)
    assert store.look_ups == 4
