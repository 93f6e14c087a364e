from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from pgvector import HalfVector
from psycopg import Rollback
from psycopg.types.json import Jsonb

from services.pipeline.domain.collection import unknown_collection
from services.pipeline.domain.document import RawDocument
from services.pipeline.domain.job import IngestItem

if TYPE_CHECKING:
    from services.kit.postgres import Connection
    from services.pipeline.adapters.postgres.pool import Database
    from services.pipeline.domain.collection import Collection
    from services.pipeline.domain.job import EmbeddedDocument

_BEGIN = """
    update pipeline.ingest_jobs set state = 'running'
    where id = %s and state in ('pending', 'running')
"""
_WAITING = """
    select position from pipeline.ingest_items where job_id = %s and state = 'pending' order by position
"""
_TAKE = """
    select j.tenant, j.collection, i.source, i.mime_type, i.title, i.metadata, i.content_sha256, i.content,
      j.cache_control
    from pipeline.ingest_items i join pipeline.ingest_jobs j on j.id = i.job_id
    where j.id = %s and i.position = %s and j.state = 'running' and i.state = 'pending'
"""
_IS_WANTED = """
    select 1 from pipeline.ingest_items i join pipeline.ingest_jobs j on j.id = i.job_id
    where j.id = %s and i.position = %s and j.state = 'running' and i.state = 'pending'
"""
_LOCK_JOB = "select 1 from pipeline.ingest_jobs where id = %s and state = 'running' for update"
_FINISH = """
    update pipeline.ingest_items set state = %s, failure = %s, content = null
    where job_id = %s and position = %s and state = 'pending'
"""
_COUNT = """
    update pipeline.ingest_jobs set done_documents = done_documents + 1,
      unchanged_documents = unchanged_documents + %s, stored_chunks = stored_chunks + %s
    where id = %s
"""
_END = """
    update pipeline.ingest_jobs j set ended_at = now(), state = case when exists
      (select 1 from pipeline.ingest_items i where i.job_id = j.id and i.state = 'failed')
      then 'failed' else 'succeeded' end
    where id = %s and state in ('pending', 'running')
"""
_LOCK_COLLECTION = "select 1 from pipeline.collections where id = %s for no key update"
_FIND_OLD = """
    select id, chunk_count from pipeline.documents where collection_id = %s and md5(source) = md5(%s)
"""
_DELETE_CHUNKS = "delete from pipeline.chunks where document_id = %s"
_PUT = """
    insert into pipeline.documents
      (id, collection_id, source, title, mime_type, metadata, text, content_sha256, recipe, chunk_count)
    values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
    on conflict (id) do update set title = excluded.title, mime_type = excluded.mime_type,
      metadata = excluded.metadata, text = excluded.text, content_sha256 = excluded.content_sha256,
      recipe = excluded.recipe, chunk_count = excluded.chunk_count, updated_at = now()
"""
_COPY_CHUNKS = """
    copy pipeline.chunks (document_id, position, collection_id, start_char, end_char, text, embedding)
    from stdin (format binary)
"""
_CHUNK_TYPES = ["uuid", "int4", "int8", "int4", "int4", "text", "halfvec"]
_COUNT_DOCUMENT = """
    update pipeline.collections set document_count = document_count + %s, chunk_count = chunk_count + %s
    where id = %s
"""


class PostgresItems:
    """The documents that wait in jobs. Each change of one is made once, however often it is asked for."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, job_id: str) -> list[int]:
        async with self._database.transaction() as connection:
            if (await connection.execute(_BEGIN, (job_id,))).rowcount == 0:
                return []
            rows = await connection.execute(_WAITING, (job_id,))
            return [position for (position,) in await rows.fetchall()]

    async def take(self, job_id: str, position: int) -> IngestItem | None:
        async with self._database.transaction() as connection:
            rows = await connection.execute(_TAKE, (job_id, position))
            row = await rows.fetchone()
        if row is None:
            return None
        tenant, collection, source, mime_type, title, metadata, sha256, content, cache_control = row
        return IngestItem(
            job_id=job_id,
            position=position,
            tenant=tenant,
            collection=collection,
            document=RawDocument(source=source, mime_type=mime_type, title=title, content=content),
            metadata=metadata,
            sha256=sha256,
            cache_control=cache_control,
        )

    async def is_wanted(self, item: IngestItem) -> bool:
        async with self._database.transaction() as connection:
            rows = await connection.execute(_IS_WANTED, (item.job_id, item.position))
            return await rows.fetchone() is not None

    async def store(self, item: IngestItem, collection: Collection, document: EmbeddedDocument) -> None:
        async with self._database.transaction() as connection:
            # Two jobs may store one source at a time: the later one waits here and replaces.
            rows = await connection.execute(_LOCK_COLLECTION, (collection.id,))
            if await rows.fetchone() is None:
                raise unknown_collection(collection.name)
            rows = await connection.execute(_FIND_OLD, (collection.id, item.document.source))
            old_key, old_chunks = await rows.fetchone() or (None, 0)
            await connection.execute(_DELETE_CHUNKS, (old_key,))
            await _put(connection, old_key or uuid.uuid4(), item, collection, document)
            grown = (int(old_key is None), len(document.vectors) - old_chunks, collection.id)
            await connection.execute(_COUNT_DOCUMENT, grown)
            if not await _finish(connection, item, "stored", chunks=len(document.vectors)):
                raise Rollback

    async def skip(self, item: IngestItem) -> None:
        async with self._database.transaction() as connection:
            await _finish(connection, item, "unchanged")

    async def fail(self, item: IngestItem, message: str) -> None:
        async with self._database.transaction() as connection:
            await _finish(connection, item, "failed", failure=message)

    async def end(self, job_id: str) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(_END, (job_id,))


async def _finish(
    connection: Connection, item: IngestItem, state: str, *, chunks: int = 0, failure: str | None = None
) -> bool:
    """Takes the item out of the waiting ones and counts it; False when it was out, or its job was stopped."""
    # The job first, as whoever cancels it does, so that the two cannot lock each other out.
    rows = await connection.execute(_LOCK_JOB, (item.job_id,))
    if await rows.fetchone() is None:
        return False
    rows = await connection.execute(_FINISH, (state, failure, item.job_id, item.position))
    if rows.rowcount == 0:
        return False
    await connection.execute(_COUNT, (int(state == "unchanged"), chunks, item.job_id))
    return True


async def _put(
    connection: Connection,
    key: uuid.UUID,
    item: IngestItem,
    collection: Collection,
    embedded: EmbeddedDocument,
) -> None:
    raw, document = item.document, embedded.document
    values = (
        *(key, collection.id, raw.source, document.title, raw.mime_type, Jsonb(item.metadata)),
        *(document.text, item.sha256, embedded.recipe, len(document.chunks)),
    )
    await connection.execute(_PUT, values)
    async with connection.cursor() as cursor, cursor.copy(_COPY_CHUNKS) as copy:
        copy.set_types(_CHUNK_TYPES)
        for position, (chunk, vector) in enumerate(zip(document.chunks, embedded.vectors, strict=True)):
            span = (chunk.start_char, chunk.end_char, chunk.text)
            await copy.write_row((key, position, collection.id, *span, HalfVector(vector)))
