"""Takes what is too old out of the ledger, the decisions and the outcomes, beside the calls."""

import asyncio
import logging
from datetime import timedelta

import psycopg

from services.kit.postgres import Pool

TIMEOUT_S = 2.0
INTERVAL_S = 3600.0
"""Between two removals."""
BATCH = 5000
"""Rows that one statement removes: few enough to be quick."""
PAUSE_S = 0.1
"""Between two batches, for those who wait for the database."""

OWN = "select pg_try_advisory_xact_lock(hashtextextended('router/retention', 0))"
# Put into SQL as text: nothing but names of our own stands in them.
_DELETES = tuple(
    f"""
delete from router.{table} where ctid = any(array(
  select ctid from router.{table} where time < now() - %s::interval limit {BATCH}
))
"""  # noqa: S608
    for table in ("ledger", "decisions", "outcomes")
)

log = logging.getLogger(__name__)


class PostgresRetention:
    """Removes rows at the given age, one router at a time."""

    def __init__(self, pool: Pool, age: timedelta) -> None:
        self._pool = pool
        self._age = age

    async def keep(self) -> None:
        """Removes again and again, until cancelled; what fails, as without tables, is tried the next time."""
        while True:
            try:
                await self.remove()
            except (psycopg.Error, TimeoutError) as error:
                log.warning("old rows of the ledger cannot be removed now: %s", type(error).__name__)
            await asyncio.sleep(INTERVAL_S)

    async def remove(self) -> int:
        """Removes what is too old now and gives the number of rows; none while another router does so."""
        removed = 0
        for statement in _DELETES:
            count = BATCH
            while count == BATCH:
                count = await self._remove_batch(statement)
                removed += count
                if count == BATCH:
                    await asyncio.sleep(PAUSE_S)
        return removed

    async def _remove_batch(self, statement: str) -> int:
        async with (
            asyncio.timeout(TIMEOUT_S),
            self._pool.connection() as connection,
            connection.transaction(),
        ):
            row = await (await connection.execute(OWN)).fetchone()
            if row != (True,):
                return 0
            return (await connection.execute(statement.encode(), (self._age,))).rowcount
