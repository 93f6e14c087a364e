from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import psycopg
from pgvector.psycopg import register_vector_async
from psycopg_pool import PoolTimeout

from services.kit.errors import Unavailable
from services.kit.postgres import Connection, Pool
from services.pipeline.ports import DATABASE_UNREACHABLE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MAX_CONNECTIONS = 10
STATEMENT_TIMEOUT_MS = 60_000
CONNECT_TIMEOUT_S = 10.0


class Database:
    """A bounded pool of connections that know vectors; entered it connects, left it closes."""

    def __init__(self, database_url: str) -> None:
        self._pool = Pool(
            database_url,
            open=False,
            min_size=1,
            max_size=MAX_CONNECTIONS,
            timeout=CONNECT_TIMEOUT_S,
            configure=_configure,
            kwargs={"options": f"-c statement_timeout={STATEMENT_TIMEOUT_MS}", "connect_timeout": 10},
        )

    async def open(self) -> None:
        """Connects; raises Unavailable when the database does not answer in time."""
        try:
            await self._pool.open(wait=True, timeout=CONNECT_TIMEOUT_S)
        except PoolTimeout:
            await self._pool.close()
            raise _unreachable() from None

    async def close(self) -> None:
        """Closes the connections once they are given back."""
        await self._pool.close()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection in a transaction that is committed at the end, and undone by an exception.

        Raises:
            Unavailable: no connection came free in time, or the server went away.
        """
        try:
            async with self._pool.connection() as connection, connection.transaction():
                yield connection
        except (PoolTimeout, psycopg.OperationalError) as error:
            raise _unreachable() from error


async def _configure(connection: Connection) -> None:
    await register_vector_async(connection)
    await connection.commit()


def _unreachable() -> Unavailable:
    return Unavailable(
        "The database cannot be reached: is it running, and is DATABASE_URL right?",
        reason=DATABASE_UNREACHABLE,
        retry_after_s=1.0,
    )
