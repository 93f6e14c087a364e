from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb

from quartet.common.v1 import document_pb2
from services.pipeline.adapters.postgres.documents import read_key
from services.pipeline.domain.moments import timestamp

if TYPE_CHECKING:
    from services.pipeline.adapters.postgres.pool import Database
    from services.pipeline.domain.document import RawDocument

MAX_UNENDED = 10_000

_STATES = {
    "pending": document_pb2.INGEST_STATE_PENDING,
    "running": document_pb2.INGEST_STATE_RUNNING,
    "succeeded": document_pb2.INGEST_STATE_SUCCEEDED,
    "failed": document_pb2.INGEST_STATE_FAILED,
    "cancelled": document_pb2.INGEST_STATE_CANCELLED,
}

# What a process that ended while it received documents has left.
_REMOVE_ABANDONED = """
    delete from pipeline.ingest_jobs
    where state = 'receiving' and ended_at is null and created_at < now() - interval '1 hour'
"""
_CREATE = """
    insert into pipeline.ingest_jobs (tenant, collection, cache_control) values (%s, %s, %s) returning id
"""
_ADD = """
    insert into pipeline.ingest_items
      (job_id, position, source, mime_type, title, metadata, content_sha256, content)
    values (%s, %s, %s, %s, %s, %s, %s, %b)
"""
_OPEN = """
    update pipeline.ingest_jobs set state = 'pending',
      total_documents = (select count(*) from pipeline.ingest_items where job_id = id)
    where id = %s and state = 'receiving'
"""
_DISCARD = "delete from pipeline.ingest_jobs where id = %s and state = 'receiving'"
_GET = """
    select collection, state, total_documents, done_documents, unchanged_documents, stored_chunks,
      created_at, ended_at,
      (select coalesce(array_agg(array[source, failure] order by position), '{}')
       from pipeline.ingest_items where job_id = j.id and state = 'failed')
    from pipeline.ingest_jobs j where id = %s and tenant = %s and state <> 'receiving'
"""
_LOCK = """
    select 1 from pipeline.ingest_jobs
    where id = %s and tenant = %s and state <> 'receiving' for update
"""
_CANCEL = """
    update pipeline.ingest_jobs set state = 'cancelled', ended_at = now()
    where id = %s and ended_at is null
"""
_DROP_CONTENTS = """
    update pipeline.ingest_items i set content = null from pipeline.ingest_jobs j
    where j.id = i.job_id and j.id = %s and j.state = 'cancelled'
"""
_UNENDED = """
    select id from pipeline.ingest_jobs where ended_at is null and state <> 'receiving'
    order by created_at limit %s
"""


class PostgresJobs:
    """Ingest jobs, as their callers see them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, tenant: str, collection: str, cache_control: str) -> str:
        async with self._database.transaction() as connection:
            await connection.execute(_REMOVE_ABANDONED)
            rows = await connection.execute(_CREATE, (tenant, collection, cache_control))
            (job_id,) = await rows.fetchone() or ("",)
        return str(job_id)

    async def add(self, job_id: str, position: int, document: RawDocument, metadata: dict[str, str]) -> None:
        values = (
            *(job_id, position, document.source, document.mime_type, document.title, Jsonb(metadata)),
            *(hashlib.sha256(document.content).digest(), document.content),
        )
        async with self._database.transaction() as connection:
            await connection.execute(_ADD, values)

    async def open(self, job_id: str) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(_OPEN, (job_id,))

    async def discard(self, job_id: str) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(_DISCARD, (job_id,))

    async def get(self, tenant: str, job_id: str) -> document_pb2.IngestJob | None:
        if (key := read_key(job_id)) is None:
            return None
        async with self._database.transaction() as connection:
            rows = await connection.execute(_GET, (key, tenant))
            row = await rows.fetchone()
        return _job(str(key), row) if row else None

    async def cancel(self, tenant: str, job_id: str) -> bool:
        if (key := read_key(job_id)) is None:
            return False
        async with self._database.transaction() as connection:
            rows = await connection.execute(_LOCK, (key, tenant))
            if await rows.fetchone() is None:
                return False
            await connection.execute(_CANCEL, (key,))
            await connection.execute(_DROP_CONTENTS, (key,))
        return True

    async def unended(self) -> list[str]:
        async with self._database.transaction() as connection:
            rows = await connection.execute(_UNENDED, (MAX_UNENDED,))
            return [str(job_id) for (job_id,) in await rows.fetchall()]


def _job(job_id: str, row: tuple[Any, ...]) -> document_pb2.IngestJob:
    collection, state, total, done, unchanged, chunks, created_at, ended_at, failures = row
    return document_pb2.IngestJob(
        id=job_id,
        collection=collection,
        state=_STATES[state],
        total_documents=total,
        done_documents=done,
        unchanged_documents=unchanged,
        stored_chunks=chunks,
        failures=[document_pb2.IngestFailure(source=source, message=message) for source, message in failures],
        create_time=timestamp(created_at),
        end_time=timestamp(ended_at) if ended_at else None,
    )
