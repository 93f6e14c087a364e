"""What the router keeps of a tenant in PostgreSQL, to be removed with the tenant."""

import asyncio

import psycopg
from psycopg_pool import PoolTimeout

from services.kit.errors import Unavailable
from services.kit.postgres import Pool

TIMEOUT_S = 2.0
BATCH = 5000
"""Rows that one statement removes: few enough to be quick, so that a big tenant holds nobody up."""

# Put into SQL as text: nothing but names of our own stands in them.
_DELETES = tuple(
    f"""
delete from router.{table} where ctid = any(array(
  select ctid from router.{table} where tenant = %s limit {BATCH}
))
"""  # noqa: S608
    for table in ("ledger", "decisions", "outcomes", "questions")
)


class PostgresTenantData:
    """`TenantData` made real."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def delete(self, tenant: str) -> int:
        deleted = 0
        for statement in _DELETES:
            count = BATCH
            while count == BATCH:
                count = await self._execute(statement, tenant)
                deleted += count
        return deleted

    async def _execute(self, statement: str, tenant: str) -> int:
        try:
            async with asyncio.timeout(TIMEOUT_S), self._pool.connection() as connection:
                return (await connection.execute(statement.encode(), (tenant,))).rowcount
        except (psycopg.OperationalError, PoolTimeout, TimeoutError):
            raise Unavailable(
                "the tenant's rows cannot be removed now: delete the tenant again in a moment",
                reason="TENANT_DATA_UNAVAILABLE",
                retry_after_s=1.0,
            ) from None
