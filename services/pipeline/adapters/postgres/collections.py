from __future__ import annotations

from typing import TYPE_CHECKING, Any

from services.kit.errors import Aborted
from services.pipeline.domain.collection import Collection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.pipeline.adapters.postgres.pool import Database

_FIND = """
    select id, tenant, name, embedding_model, dimension, description, document_count, chunk_count, created_at
    from pipeline.collections where tenant = %s and name = %s
"""
_CREATE = """
    insert into pipeline.collections (tenant, name, embedding_model, dimension, description)
    values (%s, %s, %s, %s, %s) on conflict (tenant, name) do nothing
"""
_PAGE = """
    select id, tenant, name, embedding_model, dimension, description, document_count, chunk_count, created_at
    from pipeline.collections where tenant = %(tenant)s and name collate "C" > %(after)s
    and (%(names)s::text[] is null or name = any(%(names)s)) order by name collate "C" limit %(limit)s
"""
_DELETE = "delete from pipeline.collections where tenant = %s and name = %s returning document_count"


class PostgresCollections:
    """Collections in the table `pipeline.collections`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, tenant: str, name: str) -> Collection | None:
        async with self._database.transaction() as connection:
            rows = await connection.execute(_FIND, (tenant, name))
            row = await rows.fetchone()
        return _collection(row) if row else None

    async def create(
        self, tenant: str, name: str, *, embedding_model: str, dimension: int, description: str
    ) -> Collection:
        async with self._database.transaction() as connection:
            values = (tenant, name, embedding_model, dimension, description)
            await connection.execute(_CREATE, values)
            rows = await connection.execute(_FIND, (tenant, name))
            row = await rows.fetchone()
        if row is None:
            raise Aborted(f"the collection {name!r} was removed while it was made: try again")
        return _collection(row)

    async def page(
        self, tenant: str, *, names: Sequence[str] | None, after: str, limit: int
    ) -> list[Collection]:
        values = {
            "tenant": tenant,
            "names": None if names is None else list(names),
            "after": after,
            "limit": limit,
        }
        async with self._database.transaction() as connection:
            rows = await connection.execute(_PAGE, values)
            return [_collection(row) for row in await rows.fetchall()]

    async def delete(self, tenant: str, name: str) -> int | None:
        async with self._database.transaction() as connection:
            rows = await connection.execute(_DELETE, (tenant, name))
            row = await rows.fetchone()
        return int(row[0]) if row else None


def _collection(row: tuple[Any, ...]) -> Collection:
    identity, tenant, name, embedding_model, dimension, description, documents, chunks, created_at = row
    return Collection(
        id=identity,
        tenant=tenant,
        name=name,
        embedding_model=embedding_model,
        dimension=dimension,
        description=description,
        document_count=documents,
        chunk_count=chunks,
        created_at=created_at,
    )
