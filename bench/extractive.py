"""How often `local/extractive` quotes a sentence that answers: `python bench/extractive.py --data DIR`.

Each question comes with the passage that answers it and DISTRACTORS others of the same collection, in random
order. A quote is right when it has the answer (xquad), overlaps a gold sentence (clapnq), or is of the right
passage (productdocs, whose answers are free text). `abstained` is the share of questions without any quote:
to be low where the passage answers, high for the questions of clapnq that it does not answer.
"""

import argparse
import asyncio
import gzip
import json
import os
import random
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from services.kit.artifacts import minilm_directory
from services.router.adapters.extractive.selection import Pick, Source, select_sentences
from services.router.adapters.minilm.embedder import MiniLMEmbedder

DISTRACTORS = 4
EMBED_TIMEOUT_S = 60.0
SETS = ("xquad", "clapnq", "productdocs")
Row = dict[str, Any]


def read(path: Path) -> list[Row]:
    """The rows of a file of JSON lines."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def is_right(name: str, row: Row, pick: Pick, document: str) -> bool:
    """Whether a quote answers, as far as the data can tell."""
    quote = plain(pick.sentence.text)
    if name == "xquad":
        return plain(row["answer"]) in quote
    if name == "clapnq":
        gold = [plain(sentence) for sentences in row["gold_sentences"] for sentence in sentences]
        return any(sentence and (sentence in quote or quote in sentence) for sentence in gold)
    return document in row["qrels"]


def plain(text: str) -> str:
    """Words alone, for comparing."""
    return re.sub(r"\W+", " ", text.lower()).strip()


async def measure(name: str, folder: Path, limit: int, embedder: MiniLMEmbedder) -> str:
    """The figures of one set, as a line."""
    corpus = {row["id"]: row for row in read(folder / f"{name}.corpus.jsonl.gz")}
    rows = read(folder / f"{name}.dev.jsonl.gz")
    chance = random.Random(7)  # noqa: S311 - a fixed order, no secret
    chance.shuffle(rows)

    async def embed(texts: Sequence[str]) -> list[float]:
        answer = await embedder.embed(texts, timeout_s=EMBED_TIMEOUT_S)
        vectors = np.frombuffer(answer.vectors, dtype="<f4").reshape(-1, answer.dimension)
        similarities: list[float] = (vectors[1:] @ vectors[0]).tolist()
        return similarities

    best, any_right, abstained, unanswerable, quotes, begun = 0, 0, 0, [0, 0], 0, time.perf_counter()
    answerable = 0
    for row in rows[:limit]:
        gold = next(iter(row["qrels"]))
        others = chance.sample(sorted(corpus.keys() - row["qrels"].keys()), DISTRACTORS)
        documents = [gold, *others]
        chance.shuffle(documents)
        sources = [Source(title=corpus[d].get("title") or "", text=corpus[d]["text"]) for d in documents]
        picks = await select_sentences(row["query"], sources, embed)
        if not row.get("answerable", True):
            unanswerable[0] += 1
            unanswerable[1] += not picks
            continue
        answerable += 1
        abstained += not picks
        quotes += len(picks)
        first = max(picks, key=lambda pick: pick.score, default=None)
        best += first is not None and is_right(name, row, first, documents[first.passage])
        any_right += any(is_right(name, row, pick, documents[pick.passage]) for pick in picks)
    seconds = (time.perf_counter() - begun) / max(1, min(limit, len(rows)))
    line = (
        f"{name:12} {answerable:4} questions: best quote right {best / answerable:.3f}, any quote right "
        f"{any_right / answerable:.3f}, {quotes / answerable:.2f} quotes, "
        f"abstained {abstained / answerable:.3f}, {seconds * 1000:.0f} ms each"
    )
    if unanswerable[0]:
        line += f"; of {unanswerable[0]} without an answer, abstained {unanswerable[1] / unanswerable[0]:.3f}"
    return line


async def main() -> None:
    """Prints a line for each set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("QUARTET_DATA_DIR"), help="holds rag/retrieval"
    )
    parser.add_argument("--limit", type=int, default=10_000, help="questions of each set")
    options = parser.parse_args()
    if options.data is None:
        parser.error("name the data folder with --data or QUARTET_DATA_DIR")
    async with MiniLMEmbedder(minilm_directory()) as embedder:
        for name in SETS:
            print(
                await measure(name, Path(options.data) / "rag" / "retrieval", options.limit, embedder),
                flush=True,
            )


if __name__ == "__main__":
    asyncio.run(main())
