"""The local embedding model against reference vectors, and its speed.

`python bench/embedding.py [--data DIR] [--model DIR] [--threads N]`; DIR of --data (or QUARTET_DATA_DIR)
holds `embedding/minilm_reference.jsonl.gz`, rows of `text`, `tokens`, `embedding`. Exits 1 when a row's
cosine is below 0.9999 or its token count differs.
"""

import argparse
import asyncio
import gzip
import os
import resource
import struct
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import orjson

from services.kit.artifacts import minilm_directory
from services.router.adapters.minilm.embedder import MiniLMEmbedder

MIN_COSINE = 0.9999
TIMEOUT_S = 300.0


def read_reference(data: Path) -> list[dict[str, Any]]:
    """Read the rows of the reference file."""
    with gzip.open(data / "embedding" / "minilm_reference.jsonl.gz") as lines:
        return [orjson.loads(line) for line in lines]


def cosine(left: Sequence[float], right: Sequence[float]) -> float:
    """Compute the cosine of two vectors of any length."""
    product = sum(a * b for a, b in zip(left, right, strict=True))
    norms = sum(a * a for a in left) * sum(b * b for b in right)
    return float(product / norms**0.5)


async def compare(embedder: MiniLMEmbedder, rows: list[dict[str, Any]]) -> bool:
    """Embed every text alone and all together; print the worst cosine of each way."""
    texts = [row["text"] for row in rows]
    together = await embedder.embed(texts, timeout_s=TIMEOUT_S)
    alone = [await embedder.embed([text], timeout_s=TIMEOUT_S) for text in texts]
    passed = True
    for way, vectors, counts in (
        ("together", together.vectors, list(together.token_counts)),
        ("alone", b"".join(one.vectors for one in alone), [one.token_counts[0] for one in alone]),
    ):
        unpacked = list(struct.iter_unpack(f"<{together.dimension}f", vectors))
        cosines = [cosine(vector, row["embedding"]) for vector, row in zip(unpacked, rows, strict=True)]
        wrong = [row["text"] for row, count in zip(rows, counts, strict=True) if row["tokens"] != count]
        print(f"{way:9} rows {len(rows)}  min cosine {min(cosines):.8f}  wrong token counts {len(wrong)}")
        passed = passed and min(cosines) >= MIN_COSINE and not wrong
    return passed


async def measure(embedder: MiniLMEmbedder, rows: list[dict[str, Any]]) -> None:
    """Print throughput by text length, and what an interactive request waits beside a large batch."""
    longest = max((row["text"] for row in rows), key=len)
    for name, text, count in (
        ("short (12 tokens)", "how do I renew the certificate of my server?", 512),
        ("passage (64 tokens)", " ".join(longest.split()[:48]), 128),
        ("full window (256 tokens)", longest, 48),
    ):
        started = time.perf_counter()
        embeddings = await embedder.embed([text] * count, timeout_s=TIMEOUT_S)
        seconds = time.perf_counter() - started
        tokens = sum(embeddings.token_counts)
        print(f"{name:26} {count / seconds:7.1f} texts/s  {tokens / seconds:6.0f} tokens/s")
    print(f"one short text, idle:             median {await latency(embedder):6.1f} ms")
    ingestion = asyncio.create_task(embedder.embed([longest] * 120, timeout_s=TIMEOUT_S))
    await asyncio.sleep(0.05)
    print(f"one short text, beside ingestion: median {await latency(embedder):6.1f} ms")
    print(f"ingestion still under way then: {not ingestion.done()}")
    await ingestion


async def latency(embedder: MiniLMEmbedder) -> float:
    """Return the median time of 15 requests, in milliseconds."""
    times = []
    for number in range(15):
        started = time.perf_counter()
        await embedder.embed([f"question number {number}"], timeout_s=TIMEOUT_S)
        times.append((time.perf_counter() - started) * 1e3)
    return median(times)


async def run(data: Path, model: Path, threads: int) -> bool:
    """Run both parts on one worker."""
    rows = read_reference(data)
    started = time.perf_counter()
    async with MiniLMEmbedder(model, threads=threads) as embedder:
        print(f"worker ready in {time.perf_counter() - started:.2f} s, {threads} thread(s)")
        passed = await compare(embedder, rows)
        await measure(embedder, rows)
    peak_mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"worker's peak memory {peak_mib:.0f} MiB")
    print("passed" if passed else f"FAILED: a cosine below {MIN_COSINE} or a wrong token count")
    return passed


def main() -> int:
    """Run the benchmark; returns its exit status."""
    parser = argparse.ArgumentParser(description="The local embedding model: likeness and speed.")
    parser.add_argument("--data", type=Path, default=os.environ.get("QUARTET_DATA_DIR"), metavar="DIR")
    parser.add_argument("--model", type=Path, default=minilm_directory(), metavar="DIR")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.data is None:
        parser.error("name the folder of the reference data with --data or QUARTET_DATA_DIR")
    return 0 if asyncio.run(run(Path(options.data), options.model, options.threads)) else 1


if __name__ == "__main__":
    sys.exit(main())
