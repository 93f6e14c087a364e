"""The end of what the router keeps for too long, in a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import psycopg
import pytest_asyncio

from services.kit.postgres import Pool
from services.router.adapters.postgres.retention import OWN, PostgresRetention
from services.router.settings import Settings
from services.router.wiring import build

ROWS = """
insert into router.ledger (call_id, tenant, key_id, route, model, run_id, time, cost_micro_usd,
  operation, provider, trace_id, cache, status, estimated, duration_us,
  input_tokens, output_tokens, cached_input_tokens, cache_write_tokens, reasoning_tokens)
select n::text, 'acme', 'k', '', 'm', '', now() - n * interval '1 h', 1, 'chat', 'p', '', '', 'OK', false,
  1, 1, 1, 0, 0, 0
from generate_series(1, 12000) n;
insert into router.decisions (decision_id, time, tenant, trace_id, route, model, uplift, tier, shadow,
  cheaper_micro_usd, strong_micro_usd)
select n::text, now() - n * interval '1 d', 'acme', 't', 'r', 'm', 0.5, 'cheaper', '', 1, 2
from generate_series(1, 60) n;
insert into router.outcomes (tenant, trace_id, time, score, comment)
select 'acme', n::text, now() - n * interval '1 d', 1, '' from generate_series(1, 60) n
"""
OLD = {"ledger": 12000 - 30 * 24 + 1, "decisions": 31, "outcomes": 31}
"""Rows as old as thirty days, or older: the youngest of them a moment more."""
AGE = timedelta(days=30)


@pytest_asyncio.fixture
async def connection(database_url: str) -> AsyncIterator[psycopg.AsyncConnection]:
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        await connection.execute(ROWS.encode())
        yield connection


async def count(connection: psycopg.AsyncConnection, *, old: bool) -> dict[str, int]:
    found = {}
    for table in OLD:
        statement = f"select count(*) from router.{table} where (time < now() - %s) = %s"
        (found[table],) = await (await connection.execute(statement.encode(), (AGE, old))).fetchone() or (-1,)
    return found


async def test_a_router_removes_what_is_too_old_and_nothing_else(
    connection: psycopg.AsyncConnection, database_url: str
) -> None:
    young = await count(connection, old=False)
    assert await count(connection, old=True) == OLD
    async with asyncio.timeout(30), build(Settings(database_url=database_url, ledger_retention_days=30)):
        for _ in range(600):
            if not any((await count(connection, old=True)).values()):
                break
            await asyncio.sleep(0.05)
    assert await count(connection, old=True) == dict.fromkeys(OLD, 0)
    assert await count(connection, old=False) == young


async def test_one_router_at_a_time_removes(connection: psycopg.AsyncConnection, database_url: str) -> None:
    async with Pool(database_url, min_size=1, kwargs={"autocommit": True}) as pool:
        retention = PostgresRetention(pool, AGE)
        async with connection.transaction():
            await connection.execute(OWN)
            assert await retention.remove() == 0
        assert await count(connection, old=True) == OLD
        assert await retention.remove() == sum(OLD.values())
        assert await retention.remove() == 0
