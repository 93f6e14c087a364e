"""Reads the routing data: what a weak and a strong model earned on the same prompts, family by family."""

import gzip
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import orjson
from numpy.typing import NDArray

from services.router.training.sparse import Floats, Ints

FAMILIES = (
    "llmrouter_mix",
    "mmlupro_gemini15",
    "mmlupro_llama31",
    "routellm_gsm8k",
    "routellm_mmlu",
    "routellm_mtbench",
    "zeroeval_crux",
    "zeroeval_gsm",
    "zeroeval_math_l5",
)
_LADDER = 4
"""Models at each end of a family's ranking that stand for weak and strong beside the measured pair."""


def data_directory(given: Path | None) -> Path:
    """The folder with the routing files: the one given, or `routing/` in QUARTET_DATA_DIR."""
    if given is not None:
        return given
    root = os.environ.get("QUARTET_DATA_DIR")
    if not root:
        raise SystemExit(
            "Say where the data is: --data DIR, or QUARTET_DATA_DIR with a folder routing/ in it."
        )
    return Path(root) / "routing"


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Read the objects of a gzipped JSON-lines file."""
    with gzip.open(path) as lines:
        for line in lines:
            yield orjson.loads(line)


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """The prompts of all families, in the order of `FAMILIES`.

    Attributes:
        prompts: The texts.
        sources: `family/category` of each.
        questions: Hash of the question's normalised stem; one question is asked in several families.
        families: Number of each row's family.
        topics: Number of each row's topic in `topic_names`: its category, one for the same task in several
            families.
        weak: What the weak model earned, 0..1.
        strong: What the strong model earned, 0..1.
        ladder: Mean of a family's four best models minus that of its four worst, a less noisy uplift; strong
            - weak where no other model's scores are known.
        failure: Weak model's loss, averaged with the mean loss of all models where these are known.
    """

    prompts: tuple[str, ...]
    sources: tuple[str, ...]
    questions: NDArray[np.str_]
    families: Ints
    topics: Ints
    topic_names: tuple[str, ...]
    weak: Floats
    strong: Floats
    ladder: Floats
    failure: Floats

    def __len__(self) -> int:
        return len(self.prompts)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read every family's file."""
        families = [list(read_rows(directory / f"{family}.jsonl.gz")) for family in FAMILIES]
        rows = [row for family in families for row in family]
        family_of = np.repeat(np.arange(len(FAMILIES)), [len(family) for family in families])
        topics = [
            _topic(FAMILIES[number], row["category"]) for number, row in zip(family_of, rows, strict=True)
        ]
        topic_names = sorted(set(topics))
        number_of = {name: number for number, name in enumerate(topic_names)}
        weak = np.array([row["weak_correct"] for row in rows], dtype=np.float32)
        strong = np.array([row["strong_correct"] for row in rows], dtype=np.float32)
        ladder, failure = strong - weak, 1 - weak
        for number, family in enumerate(families):
            chosen = family_of == number
            scores = _score_table(family)
            if scores is not None:
                ladder[chosen] = scores[:, -_LADDER:].mean(axis=1) - scores[:, :_LADDER].mean(axis=1)
                failure[chosen] = (failure[chosen] + 1 - scores.mean(axis=1)) / 2
        return cls(
            prompts=tuple(row["prompt"] for row in rows),
            sources=tuple(f"{FAMILIES[n]}/{row['category']}" for n, row in zip(family_of, rows, strict=True)),
            questions=np.array([row["id"].rsplit(":", 1)[1] for row in rows]),
            families=family_of,
            topics=np.array([number_of[topic] for topic in topics]),
            topic_names=tuple(topic_names),
            weak=weak,
            strong=strong,
            ladder=ladder,
            failure=failure,
        )


def _score_table(family: list[dict[str, Any]]) -> Floats | None:
    """Scores of all the family's models, the worst model in the first column."""
    models = sorted(family[0].get("scores", ()))
    if len(models) < 2 * _LADDER:
        return None
    table = np.array(
        [[row["scores"].get(model, 0.0) for model in models] for row in family], dtype=np.float32
    )
    return table[:, np.argsort(table.mean(axis=0), kind="stable")]


def _topic(family: str, category: str) -> str:
    if "gsm" in family or category in {"gsm8k", "agentverse-mgsm"}:
        return "gsm"
    if family.startswith("mmlupro"):
        return f"mmlupro/{category}"
    return f"{family}/{category}"
