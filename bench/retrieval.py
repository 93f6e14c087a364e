"""How well the pipeline finds passages: the real reader, splitter, MiniLM and pgvector on human-judged sets.

Usage: python -m bench.retrieval --data DIR [--sets xquad,scifact] [--documents 1500] [--queries 200]

DIR (or QUARTET_DATA_DIR) holds `rag/retrieval/NAME.corpus.jsonl.gz` and `NAME.dev.jsonl.gz`. Each corpus
is ingested through the service into a collection of its own, in a PostgreSQL that is started for it;
`--documents` keeps all judged documents and fills up with others. Then each query is a Retrieve. Figures
are by document: hit@5 and recall@5, and nDCG@10. The second table helps to choose the floor: which share
of the judged documents found in the first five passes it, and which share of questions about other sets
passes it although nothing here can answer them.
"""

import argparse
import asyncio
import gzip
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from quartet.common.v1 import document_pb2, generation_pb2
from quartet.pipeline.v1 import pipeline_pb2 as pb
from quartet.router.v1 import router_pb2
from services.cli.settings import StackSettings
from services.cli.stack.ports import assign_ports
from services.cli.stack.postgres import prepare_postgres
from services.cli.stack.process import ProcessRoom
from services.cli.stack.schemas import migrate_all
from services.cli.stack.supervisor import Supervisor
from services.kit.call import Call
from services.kit.client import local
from services.pipeline.settings import Settings
from services.pipeline.wiring import ROUTER, SERVICE, build
from services.router.adapters.minilm.embedder import MiniLMEmbedder

SETS = ("xquad", "productdocs", "codechunks", "clapnq", "scifact")
FLOORS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.75)
DEPTH = 50
"""Passages asked for a query, of which the first ten documents count."""
STRANGERS = 100
"""Questions of each other set that are put to a collection to see what its floor lets through."""

Row = dict[str, Any]


class EmbeddingRouter:
    """The router's Embed on the local model, and nothing else."""

    def __init__(self, embedder: MiniLMEmbedder) -> None:
        self._embedder = embedder

    async def embed(self, request: router_pb2.EmbedRequest, call: Call) -> router_pb2.EmbedResponse:
        made = await self._embedder.embed(request.texts, timeout_s=call.remaining_s())
        usage = generation_pb2.Usage(input_tokens=sum(made.token_counts), model_calls=1)
        return router_pb2.EmbedResponse(
            vectors=made.vectors, dimension=made.dimension, model="local/minilm", usage=usage
        )


@asynccontextmanager
async def pipeline_service(options: argparse.Namespace) -> AsyncIterator[Any]:
    """The service on a database of its own."""
    with tempfile.TemporaryDirectory(prefix="quartet-bench-") as folder:
        # As root, PostgreSQL runs as an account that must reach its folder.
        Path(folder).chmod(0o711)  # noqa: ASYNC240 - once, before anything runs
        home = Path(folder) / "home"
        room = ProcessRoom.within(home)
        stores = assign_ports(StackSettings(home=home, postgres_port=0), ("postgres",))
        url, program = await prepare_postgres(stores)
        supervisor = Supervisor(room, say=lambda _: None)
        try:
            await supervisor.start(program)
            await migrate_all(url)
            settings = Settings(database_url=url, executor_id="bench")
            async with (
                MiniLMEmbedder(settings.artifacts_dir / "minilm", threads=options.threads) as embedder,
                build(settings, {ROUTER: EmbeddingRouter(embedder)}) as bindings,
            ):
                yield local(SERVICE, bindings[0].service)
        finally:
            await supervisor.stop()


def read_rows(path: Path) -> list[Row]:
    """The rows of a gzipped JSON lines file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def choose(corpus: list[Row], queries: list[Row], limit: int) -> list[Row]:
    """All documents that the queries judge, and others in their order up to the limit."""
    judged = {key for query in queries for key in query["qrels"]}
    others = [row for row in corpus if row["id"] not in judged]
    return [row for row in corpus if row["id"] in judged] + others[: max(0, limit - len(judged))]


async def ingest(service: Any, name: str, corpus: list[Row]) -> tuple[int, float]:
    """Stores the documents as text files; gives the number of chunks and the seconds it took."""
    began = time.perf_counter()
    chunks = 0
    for start in range(0, len(corpus), 1000):

        async def pieces(rows: list[Row]) -> AsyncIterator[pb.IngestDocumentsRequest]:
            yield pb.IngestDocumentsRequest(collection=name)
            for row in rows:
                header = document_pb2.DocumentHeader(
                    source=row["id"], mime_type="text/plain", title=row["title"]
                )
                yield pb.IngestDocumentsRequest(header=header)
                yield pb.IngestDocumentsRequest(data=row["text"].encode())

        answer = await service.ingest_documents(pieces(corpus[start : start + 1000]), call())
        job = answer.job
        async for event in service.watch_ingest_job(pb.WatchIngestJobRequest(job_id=job.id), call()):
            job = event.job
            if sys.stderr.isatty():
                sys.stderr.write(f"\r{name}: {start + job.done_documents} of {len(corpus)} documents")
        if job.failures:
            sys.stderr.write(f"\n{name}: {len(job.failures)} failed, such as {job.failures[0]}\n")
        chunks += job.stored_chunks
    return chunks, time.perf_counter() - began


async def search(service: Any, name: str, query: str) -> list[tuple[str, float]]:
    """Documents with the score of their best passage, nearest first."""
    request = pb.RetrieveRequest(collection=name, query=query, top_k=DEPTH, threshold=-1)
    found = await service.retrieve(request, call())
    best: dict[str, float] = {}
    for passage in found.passages:
        best.setdefault(passage.source, passage.score)
    return list(best.items())


def ndcg(found: list[tuple[str, float]], judged: Row, depth: int = 10) -> float:
    """Normalised discounted cumulative gain with the judgements as gains."""
    gain: float = sum(judged.get(key, 0) / math.log2(rank + 2) for rank, (key, _) in enumerate(found[:depth]))
    ideal = sorted(judged.values(), reverse=True)[:depth]
    best: float = sum(value / math.log2(rank + 2) for rank, value in enumerate(ideal))
    return gain / best


def shares(scores: list[float]) -> Iterator[float]:
    """Which share reaches each of FLOORS, in percent."""
    for floor in FLOORS:
        yield 100 * sum(score >= floor for score in scores) / max(1, len(scores))


async def measure(options: argparse.Namespace) -> None:
    """Prints both tables."""
    folder = Path(options.data) / "rag" / "retrieval"
    names = options.sets.split(",")
    queries = {name: read_rows(folder / f"{name}.dev.jsonl.gz")[: options.queries] for name in names}
    print(
        f"{'set':12}{'docs':>6}{'chunks':>7}{'queries':>8}{'hit@5':>7}{'recall@5':>9}{'nDCG@10':>8}{'ms':>7}{'docs/s':>8}"
    )
    kept: dict[str, list[float]] = {}
    async with pipeline_service(options) as service:
        for name in names:
            corpus = choose(read_rows(folder / f"{name}.corpus.jsonl.gz"), queries[name], options.documents)
            chunks, seconds = await ingest(service, name, corpus)
            hits = recalls = gains = 0.0
            began = time.perf_counter()
            for query in queries[name]:
                found = await search(service, name, query["query"])
                judged = query["qrels"]
                right = [score for key, score in found[:5] if key in judged]
                hits += bool(right)
                recalls += len(right) / min(5, len(judged))
                gains += ndcg(found, judged)
                if query.get("answerable", True):
                    kept.setdefault(name, []).extend(right)
                else:
                    kept.setdefault(f"{name}, no answer", []).extend(right)
            count = len(queries[name])
            ms = (time.perf_counter() - began) / count * 1000
            print(
                f"{name:12}{len(corpus):>6}{chunks:>7}{count:>8}{hits / count:>7.3f}{recalls / count:>9.3f}"
                f"{gains / count:>8.3f}{ms:>7.1f}{len(corpus) / seconds:>8.1f}",
                flush=True,
            )
        for name in names:
            strangers = [
                row["query"] for other in names if other != name for row in queries[other][:STRANGERS]
            ]
            answers = [await search(service, name, query) for query in strangers]
            kept[f"strangers to {name}"] = [found[0][1] for found in answers if found]
    print(f"\n{'% that reach the floor':28}" + "".join(f"{floor:>6}" for floor in FLOORS))
    for title, scores in kept.items():
        print(f"{title:28}" + "".join(f"{share:>6.1f}" for share in shares(scores)))


def call() -> Call:
    """A call of the one tenant of this benchmark."""
    return Call.root(timeout_s=3600, tenant="bench")


def main() -> None:
    """Reads the options and measures."""
    parser = argparse.ArgumentParser(description="Measures retrieval on human-judged sets.")
    parser.add_argument("--data", default=os.environ.get("QUARTET_DATA_DIR"))
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--documents", type=int, default=1500)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if not options.data:
        parser.error("name the folder of the data: --data DIR or QUARTET_DATA_DIR")
    asyncio.run(measure(options))


if __name__ == "__main__":
    main()
