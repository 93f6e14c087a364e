import gzip
from pathlib import Path

import numpy as np
import orjson
import pytest

from services.router.training import lesson
from services.router.training.corpus import FAMILIES, Corpus, data_directory
from services.router.training.uplift import Examples, fit_uplift, question_folds

MODELS = "abcdefgh"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Forty prompts a family; the strong model alone is right where the word `thorny` stands."""
    directory = tmp_path_factory.mktemp("routing")
    for family in FAMILIES:
        rows = []
        for number in range(40):
            thorny = number % 2 == 0
            row: dict[str, object] = {
                "id": f"{family}:{number}:{number:06x}cafe",
                "category": "physics" if number < 20 else "law",
                "prompt": f"question {number} about {'thorny' if thorny else 'plain'} matters",
                "weak_correct": 0 if thorny else 1,
                "strong_correct": 1,
            }
            if family.startswith("zeroeval"):
                row["scores"] = {name: float(place >= 4 or not thorny) for place, name in enumerate(MODELS)}
            rows.append(orjson.dumps(row))
        (directory / f"{family}.jsonl.gz").write_bytes(gzip.compress(b"\n".join(rows)))
    return Corpus.load(directory)


def test_one_task_in_two_families_is_one_topic(corpus: Corpus) -> None:
    def topics(family: str) -> set[int]:
        return set(corpus.topics[corpus.families == FAMILIES.index(family)].tolist())

    assert topics("routellm_gsm8k") == topics("zeroeval_gsm")
    assert topics("mmlupro_gemini15") == topics("mmlupro_llama31")
    assert topics("routellm_mmlu").isdisjoint(topics("mmlupro_llama31"))


def test_the_ladder_is_best_four_minus_worst_four(corpus: Corpus) -> None:
    rows = corpus.families == FAMILIES.index("zeroeval_crux")
    assert corpus.ladder[rows] == pytest.approx(np.tile([1.0, 0.0], 20))
    assert corpus.failure[rows][0] == pytest.approx((1 + 0.5) / 2)


def test_a_question_lies_in_one_fold_in_every_family(corpus: Corpus) -> None:
    folds = question_folds(corpus, 5)
    for question in np.unique(corpus.questions):
        assert len(set(folds[corpus.questions == question])) == 1
    assert len(set(folds)) == 5


def test_a_fit_finds_the_word_that_tells(corpus: Corpus) -> None:
    examples = Examples.read(corpus)
    folds = question_folds(corpus, 5)
    held = np.flatnonzero(folds == 0)
    scores = fit_uplift(examples, np.flatnonzero(folds != 0)).predict(examples, held)
    thorny = np.array(["thorny" in corpus.prompts[row] for row in held])
    assert scores[thorny].min() > scores[~thorny].max()


def test_weak_labels_follow_the_task_and_repeat_our_sentences(corpus: Corpus) -> None:
    texts, labels = lesson.label(corpus, ["where is my card"])
    named = {text: lesson.LABELS[number] for text, number in zip(texts, labels, strict=True)}
    assert named["where is my card"] == "simple_faq"
    assert set(named.values()) == set(lesson.LABELS)
    assert texts.count("Write unit tests for the following function.") == lesson.REPETITIONS
    assert max(np.bincount(labels)) <= lesson.MAX_PER_LABEL + 20 * lesson.REPETITIONS


def test_without_a_folder_the_message_says_what_to_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QUARTET_DATA_DIR", raising=False)
    with pytest.raises(SystemExit, match="--data"):
        data_directory(None)
    monkeypatch.setenv("QUARTET_DATA_DIR", "/some/where")
    assert data_directory(None) == Path("/some/where/routing")
