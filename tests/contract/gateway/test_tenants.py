"""Tenants from their making to their end, by two gateways on one database."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from quartet.gateway.v1 import key_pb2, tenant_pb2
from services.gateway.domain.keys import make_key
from services.gateway.settings import Settings
from services.gateway.wiring import KEYS, ORCHESTRATOR, PIPELINE, ROUTER, TENANTS, build
from services.kit.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unavailable,
)
from services.kit.testing import KINDS, client_of
from tests.contract.gateway.neighbours import FakeOrchestrator, FakePipeline, FakeRouter
from tests.contract.gateway.test_keys import NATIVE, admits, call, keep


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Gateways, their neighbours, and the secret of an operator of the tenant `house`."""

    keys: Any
    tenants: Any
    natives: tuple[Any, Any]
    orchestrator: FakeOrchestrator
    pipeline: FakePipeline
    router: FakeRouter
    database_url: str
    redis_url: str
    operator: str

    async def create(self, tenant_id: str, by: str = "", **members: Any) -> tenant_pb2.Tenant:
        request = tenant_pb2.CreateTenantRequest(id=tenant_id, **members)
        response = await self.tenants.create_tenant(request, call(by or self.operator))
        tenant: tenant_pb2.Tenant = response.tenant
        return tenant

    async def grant(self, *scopes: str, tenant: str = "", by: str = "") -> str:
        request = key_pb2.CreateKeyRequest(name="k", scopes=scopes, tenant=tenant)
        response = await self.keys.create_key(request, call(by or self.operator))
        assert response.key.tenant == tenant or not tenant
        secret: str = response.secret
        return secret

    async def delete(self, tenant_id: str, by: str = "") -> int:
        request = tenant_pb2.DeleteTenantRequest(tenant_id=tenant_id)
        response = await self.tenants.delete_tenant(request, call(by or self.operator))
        return int(response.deleted_entries)

    async def listed(self) -> list[str]:
        response = await self.tenants.list_tenants(tenant_pb2.ListTenantsRequest(), call(self.operator))
        return [tenant.id for tenant in response.tenants]

    async def audit(self, by: str = "", **members: Any) -> list[tuple[str, str, str]]:
        request = key_pb2.ListAuditEntriesRequest(**members)
        response = await self.keys.list_audit_entries(request, call(by or self.operator))
        return [(entry.tenant, entry.action, entry.subject) for entry in response.entries]


@pytest_asyncio.fixture(params=KINDS)
async def suite(request: pytest.FixtureRequest, database_url: str, redis_url: str) -> AsyncIterator[Suite]:
    key, operator = make_key(tenant="house", scopes=frozenset({"*"}))
    await keep(database_url, key)
    peers = {ROUTER: FakeRouter(), PIPELINE: FakePipeline(), ORCHESTRATOR: FakeOrchestrator()}
    async with AsyncExitStack() as stack:

        async def replica() -> dict[str, Any]:
            settings = Settings(database_url=database_url, redis_url=redis_url)
            return {
                binding.service_name: await stack.enter_async_context(
                    client_of(request.param, binding.service_name, binding.service)
                )
                for binding in await stack.enter_async_context(build(settings, peers))
            }

        one, other = await replica(), await replica()
        yield Suite(
            keys=one[KEYS],
            tenants=one[TENANTS],
            natives=(one[NATIVE], other[NATIVE]),
            orchestrator=peers[ORCHESTRATOR],  # type: ignore[arg-type]
            pipeline=peers[PIPELINE],  # type: ignore[arg-type]
            router=peers[ROUTER],  # type: ignore[arg-type]
            database_url=database_url,
            redis_url=redis_url,
            operator=operator,
        )


async def test_an_operator_makes_a_tenant_and_its_first_key(suite: Suite) -> None:
    made = await suite.create("acme", name="Acme Ltd", limits=key_pb2.Limits(tokens_per_day=0))
    assert (made.id, made.name, made.limits) == ("acme", "Acme Ltd", key_pb2.Limits(tokens_per_day=0))
    secret = await suite.grant("keys", tenant="acme")
    own = await suite.keys.list_keys(key_pb2.ListKeysRequest(), call(secret))
    assert [key.tenant for key in own.keys] == ["acme"]
    with pytest.raises(AlreadyExists):
        await suite.create("acme")
    assert await suite.listed() == ["acme", "house"]


async def test_a_page_of_tenants_that_nobody_was_told_of_is_no_missing_tenant(suite: Suite) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await suite.tenants.list_tenants(
            tenant_pb2.ListTenantsRequest(page_token="NO/TOKEN"), call(suite.operator)
        )
    assert caught.value.field_violations[0].field == "page_token"


async def test_tenants_come_by_id_page_by_page(suite: Suite) -> None:
    for name in ("c", "a", "b.1"):
        await suite.create(name)
    seen, token = [], ""
    for _ in range(2):
        request = tenant_pb2.ListTenantsRequest(page_size=2, page_token=token)
        page = await suite.tenants.list_tenants(request, call(suite.operator))
        seen += [tenant.id for tenant in page.tenants]
        token = page.next_page_token
    assert (seen, token) == (["a", "b.1", "c", "house"], "")


async def test_limits_are_replaced_as_a_whole(suite: Suite) -> None:
    await suite.create("acme", limits=key_pb2.Limits(tokens_per_day=7, requests_per_minute=3))
    limits = key_pb2.Limits(concurrent_calls=0)
    request = tenant_pb2.SetTenantLimitsRequest(tenant_id="acme", limits=limits)
    response = await suite.tenants.set_tenant_limits(request, call(suite.operator))
    assert response.tenant.limits == limits
    request.tenant_id = "nobody"
    with pytest.raises(NotFound):
        await suite.tenants.set_tenant_limits(request, call(suite.operator))


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"tenant_id": "Acme"}, "id"),
        ({"tenant_id": "{x}"}, "id"),
        ({"tenant_id": "a*"}, "id"),
        ({"tenant_id": "x", "name": "\x1b[2J"}, "name"),
        ({"tenant_id": "x", "limits": key_pb2.Limits(tokens_per_day=2**64 - 1)}, "limits.tokens_per_day"),
        (
            {"tenant_id": "x", "limits": key_pb2.Limits(input_tokens_per_request=1)},
            "limits.input_tokens_per_request",
        ),
    ],
)
async def test_a_wrong_member_is_named(suite: Suite, members: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await suite.create(**members)
    assert field in [violation.field for violation in caught.value.field_violations]


async def test_no_one_but_operators_sees_or_changes_tenants(suite: Suite) -> None:
    await suite.create("acme")
    manager = await suite.grant("keys", tenant="acme")
    for attempt in (
        suite.create("mine", by=manager),
        suite.delete("house", by=manager),
        suite.tenants.list_tenants(tenant_pb2.ListTenantsRequest(), call(manager)),
        suite.tenants.set_tenant_limits(tenant_pb2.SetTenantLimitsRequest(tenant_id="acme"), call(manager)),
        suite.grant("keys", tenant="house", by=manager),
        suite.grant("tenants", by=manager),
        suite.grant("*", by=manager),
    ):
        with pytest.raises(PermissionDenied):
            await attempt


async def test_an_operator_without_keys_makes_them_for_others_alone(suite: Suite) -> None:
    await suite.create("acme")
    clerk = await suite.grant("tenants")
    assert await suite.grant("keys", tenant="acme", by=clerk)
    for attempt in (
        suite.grant("keys", by=clerk),
        suite.grant("*", tenant="acme", by=clerk),
        suite.grant("*", tenant="acme"),
        suite.grant("keys", "tenants", tenant="acme"),
    ):
        with pytest.raises(PermissionDenied):
            await attempt
    with pytest.raises(NotFound) as caught:
        await suite.grant("keys", tenant="nobody", by=clerk)
    assert caught.value.reason == "TENANT_NOT_FOUND"


async def test_a_deleted_tenant_is_gone_with_its_keys_and_data_everywhere(suite: Suite) -> None:
    await suite.create("acme")
    secret = await suite.grant("keys", tenant="acme")
    assert [await admits(native, secret) for native in suite.natives] == [True, True]
    async with Redis.from_url(suite.redis_url) as redis:
        for number in range(2500):
            await redis.set(f"quartet:{{acme}}:cache:{number}", b"x")
        await redis.set("quartet:{acme2}:cache:1", b"x")
        assert await suite.delete("acme") == 2503
        assert await redis.keys("*") == [b"quartet:{acme2}:cache:1"]
    assert [await admits(native, secret) for native in suite.natives] == [False, False]
    deleted = (suite.orchestrator.deleted, suite.pipeline.deleted, suite.router.deleted)
    assert deleted == (["acme"], ["acme"], ["acme"])
    assert await suite.listed() == ["house"]
    async with await psycopg.AsyncConnection.connect(suite.database_url) as connection:
        left = await connection.execute("select 1 from gateway.api_keys where tenant = 'acme'")
        assert await left.fetchall() == []
    assert await suite.delete("acme") == 3
    with pytest.raises(NotFound):
        await suite.delete("nobody")


async def test_a_removal_that_failed_leaves_the_keys_refused_and_is_repeated(suite: Suite) -> None:
    await suite.create("acme")
    secret = await suite.grant("keys", tenant="acme")
    suite.router.undeletable = Unavailable("away")
    with pytest.raises(Unavailable):
        await suite.delete("acme")
    assert [await admits(native, secret) for native in suite.natives] == [False, False]
    assert await suite.listed() == ["acme", "house"]
    with pytest.raises(NotFound):
        await suite.grant("keys", tenant="acme")
    suite.router.undeletable = None
    assert await suite.delete("acme") == 3
    assert await suite.listed() == ["house"]
    assert await suite.audit(action="delete_tenant") == [("acme", "delete_tenant", "acme")]


async def test_an_operator_does_not_delete_the_own_tenant(suite: Suite) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        await suite.delete("house")
    assert caught.value.reason == "OWN_TENANT"
    assert suite.router.deleted == []


async def test_the_audit_log_shows_each_tenant_its_own_and_operators_all(suite: Suite) -> None:
    await suite.create("acme")
    manager = await suite.grant("keys", tenant="acme")
    made = await suite.grant("keys")
    key_id, manager_id = made.rpartition("_")[0], manager.rpartition("_")[0]
    theirs = [("acme", "create_key", manager_id), ("acme", "create_tenant", "acme")]
    assert await suite.audit(by=manager) == theirs
    assert await suite.audit() == [("house", "create_key", key_id), *theirs]
    assert await suite.audit(action="create_tenant") == theirs[1:]
    assert await suite.audit(subject=manager_id) == theirs[:1]
    plain = await suite.grant("rpc:Generate", "rpc:ListAuditEntries")
    with pytest.raises(PermissionDenied):
        await suite.audit(by=plain)


async def test_the_audit_log_comes_newest_first_page_by_page(suite: Suite) -> None:
    made = [(await suite.grant("keys")).rpartition("_")[0] for _ in range(3)]
    seen, token = [], ""
    for _ in range(2):
        request = key_pb2.ListAuditEntriesRequest(page_size=2, page_token=token)
        page = await suite.keys.list_audit_entries(request, call(suite.operator))
        seen += [entry.subject for entry in page.entries]
        token = page.next_page_token
    assert (seen, token) == (made[::-1], "")
    for wrong in ("x", "-1", "9" * 40):
        with pytest.raises(InvalidArgument):
            await suite.audit(page_token=wrong)


async def test_who_takes_an_id_anew_does_not_see_what_went_before(suite: Suite) -> None:
    await suite.create("acme")
    await suite.grant("keys", tenant="acme")
    await suite.delete("acme")
    await suite.create("acme")
    manager = await suite.grant("keys", tenant="acme")
    assert [action for _, action, _ in await suite.audit(by=manager)] == ["create_key", "create_tenant"]
