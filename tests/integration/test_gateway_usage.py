"""Usage as the gateway reads it from the router's ledger, in a real PostgreSQL."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import psycopg
import pytest
import pytest_asyncio

from quartet.gateway.v1 import key_pb2
from services.gateway.adapters.postgres.usage import PostgresUsage
from services.gateway.domain.keys import make_key
from services.gateway.settings import Settings
from services.gateway.wiring import KEYS, build
from services.kit.call import Call
from services.kit.errors import InvalidArgument, PermissionDenied, Unavailable
from services.kit.postgres import Pool
from services.kit.testing import client_of

START, END = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)

_INSERT = """
insert into router.ledger (call_id, tenant, key_id, route, model, run_id, time, cost_micro_usd,
  operation, provider, trace_id, cache, status, estimated, duration_us,
  input_tokens, output_tokens, cached_input_tokens, cache_write_tokens, reasoning_tokens,
  baseline_micro_usd)
values (%s, %s, %s, %s, %s, %s, %s, %s, 'chat', 'openai', '', '', 'OK', false, 1000, 100, 10, 5, 0, 0, 200)
"""
CALLS = [
    ("acme", "qk_a", "code", "luna", "", datetime(2026, 11, 2, 23, 59, tzinfo=UTC), 30),
    ("acme", "qk_b", "code", "terra", "run-1", datetime(2026, 11, 2, 23, 59, tzinfo=UTC), 100),
    ("acme", "qk_b", "", "luna", "run-1", datetime(2026, 11, 3, 0, 0, tzinfo=UTC), 20),
    ("acme", "qk_a", "code", "luna", "", END, 7),
    ("other", "qk_c", "code", "luna", "", datetime(2026, 11, 2, 12, 0, tzinfo=UTC), 9999),
]


@asynccontextmanager
async def usage_in(database_url: str, *, wait_s: float = 0) -> AsyncIterator[PostgresUsage]:
    async with Pool(database_url, min_size=1, max_size=1, open=False, timeout=1) as pool:
        if wait_s:
            await pool.wait(wait_s)
        yield PostgresUsage(pool)


@pytest_asyncio.fixture
async def usage(database_url: str) -> AsyncIterator[PostgresUsage]:
    """Of a ledger with the calls above."""
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        for number, call in enumerate(CALLS):
            await connection.execute(_INSERT, (f"test-{number}", *call))
    async with usage_in(database_url, wait_s=30) as usage:
        yield usage


@pytest.mark.parametrize(
    ("group_by", "costs"),
    [
        ([], [((), 3, 150)]),
        (["model"], [(("terra",), 1, 100), (("luna",), 2, 50)]),
        (["key"], [(("qk_b",), 2, 120), (("qk_a",), 1, 30)]),
        (["route"], [(("code",), 2, 130), (("",), 1, 20)]),
        (["run"], [(("run-1",), 2, 120), (("",), 1, 30)]),
        (
            ["day", "model"],
            [
                (("2026-11-02", "terra"), 1, 100),
                (("2026-11-02", "luna"), 1, 30),
                (("2026-11-03", "luna"), 1, 20),
            ],
        ),
    ],
)
async def test_usage_is_summed_by_group_and_holds_one_tenant_and_time(
    usage: PostgresUsage, group_by: Sequence[str], costs: list[tuple[tuple[str, ...], int, int]]
) -> None:
    rows = await usage.sum_up("acme", START, END, group_by)
    assert [(tuple(row.group), row.calls, row.cost_micro_usd) for row in rows] == costs
    assert sum(row.input_tokens for row in rows) == 300
    assert sum(row.output_tokens for row in rows) == 30
    assert sum(row.cached_input_tokens for row in rows) == 15


async def test_the_baseline_stands_beside_the_cost_of_what_a_route_chose(usage: PostgresUsage) -> None:
    (row,) = await usage.sum_up("acme", START, END, [])
    assert (row.cost_micro_usd, row.routed_cost_micro_usd, row.baseline_micro_usd) == (150, 130, 600)


async def test_a_tenant_without_calls_used_nothing(usage: PostgresUsage) -> None:
    assert await usage.sum_up("nobody", START, END, ["model"]) == []


async def test_a_ledger_that_is_away_is_said_so() -> None:
    async with usage_in("postgresql://nobody@127.0.0.1:1/none?connect_timeout=1") as usage:
        with pytest.raises(Unavailable) as caught:
            await usage.sum_up("acme", START, END, [])
    assert caught.value.reason == "LEDGER_UNAVAILABLE"


async def test_a_key_sees_what_its_own_tenant_used_and_only_with_the_scope(
    database_url: str, usage: PostgresUsage
) -> None:
    del usage  # only its rows are wanted
    nowhere = "127.0.0.1:1"
    settings = Settings(
        database_url=database_url,
        router_address=nowhere,
        pipeline_address=nowhere,
        orchestrator_address=nowhere,
    )
    request = key_pb2.GetUsageRequest(group_by=["key"])
    request.start_time.FromDatetime(START)
    request.end_time.FromDatetime(END)
    async with build(settings) as bindings:
        service = next(binding.service for binding in bindings if binding.service_name == KEYS)
        async with client_of("remote", KEYS, service) as client:
            answer = await client.get_usage(request, await bearer(database_url, "acme", "keys"))
            assert [(list(row.group), row.cost_micro_usd) for row in answer.rows] == [
                (["qk_b"], 120),
                (["qk_a"], 30),
            ]
            answer = await client.get_usage(request, await bearer(database_url, "other", "*"))
            assert [row.cost_micro_usd for row in answer.rows] == [9999]
            with pytest.raises(PermissionDenied) as caught:
                await client.get_usage(request, await bearer(database_url, "acme", "model:luna"))
            assert caught.value.reason == "SCOPE_MISSING"
            request.group_by.append("tenant")
            with pytest.raises(InvalidArgument):
                await client.get_usage(request, await bearer(database_url, "acme", "*"))


async def bearer(database_url: str, tenant: str, scope: str) -> Call:
    """A call with a new key of the tenant that has one scope."""
    key, text = make_key(tenant=tenant, scopes=frozenset({scope}))
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        await connection.execute(
            "insert into gateway.tenants (id) values (%s) on conflict (id) do nothing", (tenant,)
        )
        await connection.execute(
            "insert into gateway.api_keys (id, tenant, scopes, salt, digest) values (%s, %s, %s, %s, %s)",
            (key.id, key.tenant, sorted(key.scopes), key.salt, key.digest),
        )
    return Call.root(timeout_s=10, metadata={"authorization": f"Bearer {text}"})
