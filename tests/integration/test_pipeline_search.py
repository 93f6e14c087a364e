from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray
from pgvector import HalfVector
from pgvector.psycopg import register_vector_async

from services.pipeline.adapters.postgres.collections import PostgresCollections
from services.pipeline.adapters.postgres.documents import PostgresDocuments
from services.pipeline.adapters.postgres.pool import Database
from services.pipeline.domain.collection import Collection

CHUNKS = {"large": 1500, "small": 40}
QUERIES = 40


def points(count: int, seed: int) -> NDArray[np.float32]:
    """Points of length 1 around 50 centres, as embeddings of texts lie."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(50, 384))
    found = centres[random.integers(0, 50, count)] + random.normal(scale=0.7, size=(count, 384))
    unit: NDArray[np.float32] = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)
    return unit


async def fill(url: str, collection: Collection, vectors: NDArray[np.float32]) -> None:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await register_vector_async(connection)
        rows = await connection.execute(
            "insert into pipeline.documents "
            "(collection_id, source, title, mime_type, text, content_sha256, recipe, chunk_count) "
            "values (%s, 's', 't', 'text/plain', '', '', '', %s) returning id",
            (collection.id, len(vectors)),
        )
        (document_id,) = await rows.fetchone() or (None,)
        async with (
            connection.cursor() as cursor,
            cursor.copy(
                "copy pipeline.chunks "
                "(document_id, position, collection_id, start_char, end_char, text, embedding) "
                "from stdin (format binary)"
            ) as copy,
        ):
            copy.set_types(["uuid", "int4", "int8", "int4", "int4", "text", "halfvec"])
            for position, vector in enumerate(vectors):
                await copy.write_row((document_id, position, collection.id, 0, 1, "x", HalfVector(vector)))
        await connection.execute(
            "update pipeline.collections set chunk_count = %s where id = %s",
            (len(vectors), collection.id),
        )


@asynccontextmanager
async def opened(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    await database.open()
    yield database
    await database.close()


async def graph_scans(database_url: str) -> int:
    """How often the graph was used, as the server has counted by now."""
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        rows = await connection.execute(
            "select idx_scan from pg_stat_user_indexes where indexrelname = 'chunks_by_embedding_384'"
        )
        (scans,) = await rows.fetchone() or (0,)
    return int(scans)


@pytest.mark.parametrize("by_graph", [False, True], ids=["exactly", "by the graph"])
async def test_the_nearest_chunks_of_a_collection_are_found_whatever_else_is_stored(
    database_url: str, by_graph: bool
) -> None:
    if by_graph:
        # So few rows are cheaper to sort, which the planner must not do here.
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
            await connection.execute(f"alter database {connection.info.dbname} set enable_sort = off")
    vectors: dict[str, NDArray[np.float32]] = {}
    async with opened(database_url) as database:
        collections = PostgresCollections(database)
        for seed, (name, count) in enumerate(CHUNKS.items(), start=1):
            made = await collections.create(
                "acme", name, embedding_model="local/minilm", dimension=384, description=""
            )
            vectors[name] = points(count, seed)
            await fill(database_url, made, vectors[name])
        documents = PostgresDocuments(database, exact_chunks=0 if by_graph else 10_000)

        for name, stored in vectors.items():
            collection = await collections.find("acme", name)
            assert collection is not None
            hits = 0
            for query in points(QUERIES, 99):
                found = await documents.search(collection, query, top_k=5, threshold=-1)
                wanted = set(np.argsort(-(stored @ query))[:5].tolist())
                hits += len(wanted & {int(passage.chunk_id.rpartition("/")[2]) for passage in found})
                scores = [passage.score for passage in found]
                assert scores == sorted(scores, reverse=True)
                assert {passage.collection for passage in found} == {name}
            assert hits / (5 * QUERIES) >= 0.97
    # The sessions have ended, and with them their counts are in.
    assert (await graph_scans(database_url) > 0) is by_graph
