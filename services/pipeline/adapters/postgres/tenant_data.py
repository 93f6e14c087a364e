from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.pipeline.adapters.postgres.pool import Database

BATCH = 200
"""Documents that one transaction removes with their chunks."""

# Waits for the document that a job stores right now; the next one finds its job stopped.
_STOP_JOBS = """
    update pipeline.ingest_jobs set state = 'cancelled', ended_at = now()
    where tenant = %s and ended_at is null
"""
_DELETE_DOCUMENTS = f"""
    delete from pipeline.documents where id = any(array(
      select d.id from pipeline.documents d join pipeline.collections c on c.id = d.collection_id
      where c.tenant = %s limit {BATCH}
    ))
"""  # noqa: S608 - a number of our own
_DELETE_REST = (
    "delete from pipeline.collections where tenant = %s",
    "delete from pipeline.ingest_jobs where tenant = %s",
)


class PostgresTenantData:
    """What the pipeline service keeps of tenants; chunks go with documents, and items with jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def delete(self, tenant: str) -> int:
        await self._execute(_STOP_JOBS, tenant)
        deleted, count = 0, BATCH
        while count == BATCH:
            count = await self._execute(_DELETE_DOCUMENTS, tenant)
            deleted += count
        for statement in _DELETE_REST:
            deleted += await self._execute(statement, tenant)
        return deleted

    async def _execute(self, statement: str, tenant: str) -> int:
        async with self._database.transaction() as connection:
            return (await connection.execute(statement.encode(), (tenant,))).rowcount
