"""The cache of vectors in a real Redis, its saving in a real ledger, with the provider double behind."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from redis.asyncio import Redis

from quartet.common.v1.decision_pb2 import CACHE_OUTCOME_EXACT_HIT, CACHE_OUTCOME_MISS
from quartet.router.v1 import router_pb2 as pb
from services.gateway.adapters.redis.tenant_entries import RedisTenantEntries
from services.kit.accounts.account import Amount, Caps
from services.kit.accounts.store import Accounts
from services.kit.call import Call
from services.kit.errors import ResourceExhausted
from services.kit.testing import client_of
from services.router.adapters.redis.vectors import OVERHEAD_BYTES, RedisVectors
from services.router.settings import Settings
from services.router.wiring import build
from tests.databases import read_rows
from tests.doubles.provider import Fault, ProviderDouble
from tests.integration.test_gateway_usage import usage_in

SERVICE = "quartet.router.v1.RouterService"
CONFIG = Path(__file__).parents[2] / "config"
SMALL = "text-embedding-3-small"
START, END = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
Serve = Callable[..., AbstractAsyncContextManager[Any]]


@pytest.fixture
def serve(double: ProviderDouble, redis_url: str, tmp_path: Path) -> Serve:
    """A router whose models embed 64 texts a call; what it owes the ledger is written at the end."""

    @asynccontextmanager
    async def serving(**settings: Any) -> AsyncIterator[Any]:
        models = yaml.safe_load((CONFIG / "models.yaml").read_text(encoding="utf-8"))
        next(model for model in models["models"] if model["id"] == SMALL)["batch"] = {"texts": 64}
        (tmp_path / "models.yaml").write_text(yaml.safe_dump(models), encoding="utf-8")
        (tmp_path / "routes.yaml").write_bytes((CONFIG / "routes.yaml").read_bytes())
        read: dict[str, Any] = {"redis_url": redis_url, "cache_timeout_s": 5.0, "account_timeout_s": 5.0}
        # Without the local embedder, which nothing here asks.
        read |= {"artifacts_dir": tmp_path} | settings
        built = build(Settings(openai_base_url=double.openai_url, config_dir=tmp_path, **read))
        async with built as (binding,), client_of("remote", SERVICE, binding.service) as client:
            yield client

    return serving


@pytest_asyncio.fixture
async def vectors(redis_url: str) -> AsyncIterator[RedisVectors]:
    store = RedisVectors(redis_url, timeout_s=5.0)
    yield store
    await store.close()


def call(tenant: str = "acme") -> Call:
    return Call.root(timeout_s=20, tenant=tenant, key_id="qk_0123456789ab")


def texts(count: int) -> list[str]:
    return [f"warranty of part number {number}" for number in range(count)]


async def embed(router: Any, asked: list[str], by: Call | None = None, **fields: Any) -> pb.EmbedResponse:
    response: pb.EmbedResponse = await router.embed(
        pb.EmbedRequest(model=SMALL, texts=asked, **fields), by or call()
    )
    return response


async def test_vectors_come_back_as_they_were_and_their_saving_is_in_the_ledger(
    serve: Serve, double: ProviderDouble, database_url: str
) -> None:
    asked = texts(200)
    async with serve(database_url=database_url) as router:
        fresh = await embed(router, asked)
        again = await embed(router, asked[::-1])
        other = await embed(router, asked[:1], call("other"))
    assert (fresh.cache, again.cache, other.cache) == (
        CACHE_OUTCOME_MISS,
        CACHE_OUTCOME_EXACT_HIT,
        CACHE_OUTCOME_MISS,
    )
    size = 4 * fresh.dimension
    rows = [fresh.vectors[start : start + size] for start in range(0, len(fresh.vectors), size)]
    assert again.vectors == b"".join(rows[::-1])
    assert double.calls() == 4 + 1
    booked = await read_rows(database_url, "select * from router.ledger where tenant = 'acme' order by time")
    paid, free = booked[:4], booked[4:]
    assert [row["cache"] for row in paid] == ["miss"] * 4
    assert sum(row["cost_micro_usd"] for row in paid) == fresh.usage.cost_micro_usd > 0
    assert sum(row["input_tokens"] for row in paid) == fresh.usage.input_tokens
    (hit,) = free
    assert (hit["operation"], hit["model"], hit["cache"]) == ("embeddings", SMALL, "exact_hit")
    assert (hit["cost_micro_usd"], hit["input_tokens"]) == (0, 0)
    # Its tokens are priced together, so that less is lost to rounding than in four calls.
    assert 0 < hit["baseline_micro_usd"] <= fresh.usage.cost_micro_usd
    assert again.usage.cost_micro_usd == again.usage.input_tokens == again.usage.model_calls == 0
    # What `quartet savings` and `quartet usage` are made of.
    async with usage_in(database_url) as usage:
        (told,) = await usage.sum_up("acme", START, END, ["model"])
    assert (told.calls, told.routed_cost_micro_usd) == (4, 0)
    assert told.baseline_micro_usd == hit["baseline_micro_usd"]


async def test_each_call_draws_from_the_account_and_a_hit_draws_nothing(
    serve: Serve, double: ProviderDouble, redis_url: str
) -> None:
    accounts = Accounts(redis_url, ttl_s=60, timeout_s=5.0)
    await accounts.start()
    try:
        account, _ = await accounts.open("acme", (), Amount(), Caps(model_calls=4))
        async with serve() as router:
            for _ in range(3):
                await embed(router, texts(200), budget={"account_id": account})
            with pytest.raises(ResourceExhausted) as caught:
                await embed(router, ["one more"], budget={"account_id": account})
        assert caught.value.reason == "BUDGET_EXHAUSTED"
        assert double.calls() == 4
    finally:
        await accounts.shut()


async def test_a_call_that_failed_is_repeated_and_the_others_are_not(
    serve: Serve, double: ProviderDouble
) -> None:
    double.script(fault=Fault(status=500))
    async with serve() as router:
        response = await embed(router, texts(130))
    assert double.calls() == 3 + 1
    assert response.usage.model_calls == 4


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", ""])
async def test_without_redis_everything_is_embedded_anew(
    serve: Serve, double: ProviderDouble, url: str
) -> None:
    async with serve(redis_url=url) as router:
        first, second = [await embed(router, ["a", "b"]) for _ in range(2)]
    assert first.vectors == second.vectors
    assert double.calls() == 2


async def test_a_redis_that_hangs_holds_a_request_up_for_a_moment_only(
    serve: Serve, redis_url: str, double: ProviderDouble
) -> None:
    async with serve(cache_timeout_s=0.05) as router, Redis.from_url(redis_url) as redis:
        await embed(router, ["a"])
        await redis.client_pause(1000, all=True)
        # Who waited for it would have been given what it keeps.
        assert (await embed(router, ["a"])).cached_texts == 0
        await redis.ping()
    assert double.calls() == 2


async def test_a_tenants_vectors_end_with_the_tenant(
    serve: Serve, double: ProviderDouble, redis_url: str
) -> None:
    entries = RedisTenantEntries(redis_url)
    async with serve() as router, Redis.from_url(redis_url) as redis:
        for tenant in ("acme", "other"):
            await embed(router, ["a", "b"], call(tenant))
        # Two vectors, their queue and its sum.
        assert await entries.delete("acme") == 4
        assert len(await redis.keys("quartet:{other}:vector*")) == 4
        assert (await embed(router, ["a"], call("other"))).cached_texts == 1
        assert (await embed(router, ["a"])).cached_texts == 0
    await entries.close()


async def test_a_tenant_has_no_more_than_its_share_and_the_oldest_go(
    vectors: RedisVectors, redis_url: str
) -> None:
    room = 5 * (100 + OVERHEAD_BYTES)
    for number in range(20):
        items = {f"{number}-{place}": bytes(100) for place in range(2)}
        await vectors.keep("acme", items, ttl_s=60, max_tenant_bytes=room)
    await vectors.keep("other", {"0-0": bytes(100)}, ttl_s=60, max_tenant_bytes=room)
    names = [f"{number}-{place}" for number in range(20) for place in range(2)]
    found = await vectors.find("acme", names)
    assert [data is not None for data in found] == [False] * 35 + [True] * 5
    assert await vectors.find("other", ["0-0"]) == [bytes(100)]
    async with Redis.from_url(redis_url) as redis:
        assert len(await redis.keys("quartet:{acme}:vector:*")) == 5
        assert int(await redis.get("quartet:{acme}:vectors:bytes") or 0) == room


async def test_what_expires_makes_room_and_is_kept_anew(vectors: RedisVectors, redis_url: str) -> None:
    room = 2 * (100 + OVERHEAD_BYTES)
    await vectors.keep("acme", {"a": bytes(100), "b": bytes(100)}, ttl_s=1, max_tenant_bytes=room)
    async with Redis.from_url(redis_url) as redis:
        await asyncio.sleep(1.05)
        assert not await redis.exists("quartet:{acme}:vector:a")
    await vectors.keep("acme", {"a": bytes(100)}, ttl_s=60, max_tenant_bytes=room)
    await vectors.keep("acme", {"b": bytes(100)}, ttl_s=60, max_tenant_bytes=room)
    assert await vectors.find("acme", ["a", "b"]) == [bytes(100)] * 2


async def test_what_a_vector_takes_of_redis_is_about_what_is_counted(
    vectors: RedisVectors, redis_url: str
) -> None:
    items = {f"{number:032x}": bytes(1540) for number in range(500)}
    async with Redis.from_url(redis_url) as redis:
        before = int((await redis.info("memory"))["used_memory_dataset"])
        await vectors.keep("a tenant of usual length", items, ttl_s=60, max_tenant_bytes=10**9)
        taken = (int((await redis.info("memory"))["used_memory_dataset"]) - before) / 500
    assert taken == pytest.approx(1540 + OVERHEAD_BYTES, rel=0.25)


async def test_a_redis_that_is_nearly_full_is_not_filled_up(vectors: RedisVectors, redis_url: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        before = (await redis.config_get("maxmemory"))["maxmemory"] or "0"
        used = int((await redis.info("memory"))["used_memory"])
        await redis.config_set("maxmemory", round(used * 1.2))
        try:
            for name in ("first", "second"):
                await vectors.keep("acme", {name: bytes(100)}, ttl_s=60, max_tenant_bytes=10**6)
        finally:
            await redis.config_set("maxmemory", before)
    assert await vectors.find("acme", ["first", "second"]) == [bytes(100), None]
