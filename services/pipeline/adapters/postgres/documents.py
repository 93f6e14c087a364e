from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from pgvector import HalfVector

from quartet.common.v1 import document_pb2, message_pb2
from services.pipeline.domain.moments import timestamp

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from services.kit.postgres import Connection
    from services.pipeline.adapters.postgres.pool import Database
    from services.pipeline.domain.collection import Collection
    from services.pipeline.domain.job import IngestItem

EXACT_CHUNKS = 10_000
"""Collections of up to so many chunks are searched whole: right by construction, in some 10 ms. A graph that
all tenants share would have to pass over the others' chunks to find those of a small collection.
"""

EF_SEARCH = 100
MAX_SCAN_TUPLES = 100_000
"""How far the search of a graph goes on while the filter leaves it too few."""

_NEAREST = """
    with near as materialized (
      select document_id, position, text, start_char, end_char, {distance} as distance
      from pipeline.chunks where collection_id = %(collection)s {and_dimension}
      order by distance limit %(top_k)s)
    select n.document_id, n.position, d.title, d.source, n.text, n.start_char, n.end_char, n.distance
    from near n join pipeline.documents d on d.id = n.document_id
    order by n.distance, n.document_id, n.position
"""
# An expression on which there is no graph, so that the planner cannot take one.
_NEAREST_EXACTLY = _NEAREST.format(distance="embedding <=> %(vector)s", and_dimension="")
# The very expressions of the graphs, without which the planner does not see them.
_NEAREST_IN_GRAPH = {
    dimension: _NEAREST.format(
        distance=f"embedding::public.halfvec({dimension}) <=> %(vector)s::public.halfvec({dimension})",
        and_dimension=f"and public.vector_dims(embedding) = {dimension}",
    )
    for dimension in (384, 1536)
}
_SET_GRAPH_SEARCH = """
    select set_config('hnsw.iterative_scan', 'strict_order', true),
      set_config('hnsw.ef_search', %s, true),
      set_config('hnsw.max_scan_tuples', %s, true)
"""

_GET = """
    select d.id, c.name, d.source, d.title, d.mime_type, d.metadata, d.chunk_count, d.updated_at, d.text
    from pipeline.documents d join pipeline.collections c on c.id = d.collection_id
    where d.id = %s and c.tenant = %s
"""
_PAGE = """
    select id, %s, source, title, mime_type, metadata, chunk_count, updated_at from pipeline.documents
    where collection_id = %s and source collate "C" > %s order by source collate "C" limit %s
"""
_DELETE = """
    delete from pipeline.documents d using pipeline.collections c
    where d.id = %s and c.id = d.collection_id and c.tenant = %s returning d.collection_id, d.chunk_count
"""
_UNCOUNT = """
    update pipeline.collections set document_count = document_count - 1, chunk_count = chunk_count - %s
    where id = %s
"""
_IS_STORED = """
    select 1 from pipeline.documents
    where collection_id = %s and md5(source) = md5(%s) and content_sha256 = %s and recipe = %s
"""


class PostgresDocuments:
    """Documents and their chunks, searched by cosine similarity with pgvector.

    Args:
        exact_chunks: Collections with more chunks are searched by the graph.
    """

    def __init__(self, database: Database, *, exact_chunks: int = EXACT_CHUNKS) -> None:
        self._database = database
        self._exact_chunks = exact_chunks

    async def search(
        self, collection: Collection, vector: NDArray[np.float32], *, top_k: int, threshold: float
    ) -> list[message_pb2.Passage]:
        statement = _NEAREST_EXACTLY
        # The count may have grown since the caller read the collection: it only decides the way.
        by_graph = collection.chunk_count > self._exact_chunks and collection.dimension in _NEAREST_IN_GRAPH
        async with self._database.transaction() as connection:
            if by_graph:
                statement = _NEAREST_IN_GRAPH[collection.dimension]
                reach = (str(max(EF_SEARCH, top_k)), str(MAX_SCAN_TUPLES))
                await connection.execute(_SET_GRAPH_SEARCH, reach)
            asked = {"collection": collection.id, "vector": HalfVector(vector), "top_k": top_k}
            rows = await connection.execute(statement, asked)
            found = await rows.fetchall()
        return [_passage(collection, row) for row in found if 1 - row[-1] >= threshold]

    async def get(self, tenant: str, document_id: str) -> document_pb2.Document | None:
        if (key := read_key(document_id)) is None:
            return None
        async with self._database.transaction() as connection:
            rows = await connection.execute(_GET, (key, tenant))
            row = await rows.fetchone()
        return _document(row[:-1], row[-1]) if row else None

    async def page(self, collection: Collection, *, after: str, limit: int) -> list[document_pb2.Document]:
        async with self._database.transaction() as connection:
            rows = await connection.execute(_PAGE, (collection.name, collection.id, after, limit))
            return [_document(row) for row in await rows.fetchall()]

    async def delete(self, tenant: str, document_id: str) -> bool:
        if (key := read_key(document_id)) is None:
            return False
        async with self._database.transaction() as connection:
            await _lock_collection_of(connection, key)
            rows = await connection.execute(_DELETE, (key, tenant))
            row = await rows.fetchone()
            if row is None:
                return False
            await connection.execute(_UNCOUNT, (row[1], row[0]))
        return True

    async def is_stored(self, collection: Collection, item: IngestItem, recipe: str) -> bool:
        async with self._database.transaction() as connection:
            sought = (collection.id, item.document.source, item.sha256, recipe)
            rows = await connection.execute(_IS_STORED, sought)
            return await rows.fetchone() is not None


def read_key(text: str) -> uuid.UUID | None:
    """The key that an id stands for; None for what no row can have."""
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


async def _lock_collection_of(connection: Connection, key: uuid.UUID) -> None:
    # The collection first, as whoever replaces the document does, so that the two cannot lock each other out.
    await connection.execute(
        "select 1 from pipeline.collections where id = "
        "(select collection_id from pipeline.documents where id = %s) for no key update",
        (key,),
    )


def _passage(collection: Collection, row: tuple[Any, ...]) -> message_pb2.Passage:
    document_id, position, title, source, text, start_char, end_char, distance = row
    return message_pb2.Passage(
        document_id=str(document_id),
        chunk_id=f"{document_id}/{position}",
        title=title,
        text=text,
        start_char=start_char,
        end_char=end_char,
        score=1 - distance,
        collection=collection.name,
        source=source,
    )


def _document(row: tuple[Any, ...], text: str = "") -> document_pb2.Document:
    document_id, collection, source, title, mime_type, metadata, chunk_count, updated_at = row
    return document_pb2.Document(
        id=str(document_id),
        collection=collection,
        source=source,
        title=title,
        mime_type=mime_type,
        text=text,
        metadata=metadata,
        chunk_count=chunk_count,
        update_time=timestamp(updated_at),
    )
