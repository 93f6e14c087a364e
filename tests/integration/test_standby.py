"""A server that takes no writes, as a standby that a name still leads to after a failover."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from services.gateway.adapters.postgres.audit import PostgresAudit
from services.kit.errors import Unavailable
from services.kit.migrations import migrate_service
from services.kit.postgres import Pool, StandbyError
from services.orchestrator.adapters.postgres.runs import PostgresRuns, open_pool
from services.pipeline.adapters.postgres.pool import Database
from services.router.adapters.postgres.outcomes import PostgresOutcomes
from services.router.domain.policy import Bin, Calibration

WRITE = "delete from orchestrator.runs"


@asynccontextmanager
async def read_only(database_url: str) -> AsyncIterator[None]:
    """Sessions that begin within it write nothing, for as long as they live."""
    name = sql.Identifier(str(conninfo_to_dict(database_url)["dbname"]))

    async def set_all(value: str) -> None:
        statement = sql.SQL("alter database {} set default_transaction_read_only = {}")
        async with await psycopg.AsyncConnection.connect(
            database_url, autocommit=True, options="-c default_transaction_read_only=off"
        ) as connection:
            await connection.execute(statement.format(name, sql.SQL(value)))

    await set_all("on")
    yield
    await set_all("off")


@asynccontextmanager
async def pool_of(database_url: str, size: int) -> AsyncIterator[Pool]:
    async with Pool(database_url, min_size=size, max_size=size, open=False) as pool:
        await pool.wait()
        yield pool


async def write_keys(database_url: str, stack: AsyncExitStack) -> None:
    pool = await stack.enter_async_context(pool_of(database_url, 1))
    await PostgresAudit(pool).prune(timedelta(days=1))


async def write_outcomes(database_url: str, stack: AsyncExitStack) -> None:
    pool = await stack.enter_async_context(pool_of(database_url, 1))
    await PostgresOutcomes(pool).write(
        Calibration([Bin(least_uplift=0.0, mass=1.0, weak=0.5, strong=1.0)]), 0
    )


async def write_documents(database_url: str, stack: AsyncExitStack) -> None:
    database = Database(database_url)
    stack.push_async_callback(database.close)
    await database.open()
    async with database.transaction() as connection:
        await connection.execute("delete from pipeline.ingest_jobs")


async def write_runs(database_url: str, stack: AsyncExitStack) -> None:
    pool = await stack.enter_async_context(open_pool(database_url, max_size=1, timeout_s=5))
    await PostgresRuns(pool, max_runs_per_tenant=1).delete(["r"])


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (write_keys, "KEY_STORE_UNAVAILABLE"),
        (write_outcomes, "OUTCOMES_UNAVAILABLE"),
        (write_documents, "DATABASE_UNREACHABLE"),
        (write_runs, "DATABASE_UNREACHABLE"),
    ],
)
async def test_a_write_to_a_standby_is_an_outage_to_callers_of_every_service(
    database_url: str, write: Callable[[str, AsyncExitStack], Awaitable[None]], reason: str
) -> None:
    async with AsyncExitStack() as stack, read_only(database_url):
        with pytest.raises(Unavailable) as caught:
            await write(database_url, stack)
    assert caught.value.reason == reason
    assert caught.value.retry_after_s == 1.0


async def test_a_standby_is_left_by_all_connections_once_one_wrote_to_it(database_url: str) -> None:
    async with AsyncExitStack() as stack:
        async with read_only(database_url):
            pool = await stack.enter_async_context(pool_of(database_url, 3))
            async with pool.connection() as connection:
                found = await connection.execute("select count(*) from orchestrator.runs")
                assert await found.fetchone() == (0,), "reading goes on"
        with pytest.raises(StandbyError, match="read-only"):
            async with pool.connection() as connection, connection.transaction():
                await connection.execute(WRITE)
        for _ in range(3):
            connection = await stack.enter_async_context(pool.connection())
            await connection.execute(WRITE)


@pytest.mark.parametrize(
    "form",
    [
        "postgresql://{user}:{password}@{host}:1,{host}:{port}/{name}",
        "postgresql://{user}:{password}@/{name}?host={host},{host}&port=1,{port}",
    ],
)
async def test_a_url_may_name_several_servers(database_url: str, form: str) -> None:
    fields = conninfo_to_dict(database_url)
    parts = {name: fields[name] for name in ("user", "password", "host", "port")}
    url = form.format(name=fields["dbname"], **parts)
    url += ("&" if "?" in url else "?") + "target_session_attrs=read-write"
    # By libpq, and by SQLAlchemy, which DBOS connects with.
    assert await migrate_service(url, "orchestrator") == []
    async with pool_of(url, 1) as pool, pool.connection() as connection:
        await connection.execute(WRITE)
