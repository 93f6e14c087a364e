from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from services.kit.errors import FailedPrecondition, InvalidArgument
from services.router.learned.learned import Learned
from services.router.learned.uplift import Curve
from services.router.learned.weights import SHIPPED, Weights, quantise, read_weights, write_weights


@pytest.fixture(scope="module")
def learned() -> Learned:
    return Learned.load()


def test_the_shipped_file_is_small() -> None:
    assert SHIPPED.stat().st_size <= 5 * 1024 * 1024


def test_uplift_is_a_probability_for_any_text(learned: Learned) -> None:
    for text in ("", "hello", "x" * 50_000, "\ud800", "Prove that 2 is prime.\n" * 300):
        assert 0.0 < learned.uplift(text) < 1.0


def test_a_proof_needs_the_strong_model_more_than_a_greeting(learned: Learned) -> None:
    hard = (
        "Let $p$ be a prime. How many of the $3p$ consecutive integers beginning with $p^2$ can be written "
        "as a sum of two squares, each at least $p$? Then find the remainder of this number modulo $p$."
    )
    assert learned.uplift(hard) > learned.uplift("hello, are you there?")


def test_a_long_question_of_the_same_words_needs_the_strong_model_more(learned: Learned) -> None:
    question = "Why does the sum converge? "
    assert learned.uplift(question * 400) > learned.uplift(question * 40)


@given(scores=st.lists(st.integers(-90, 90), min_size=1, max_size=9, unique=True), asked=st.floats(-99, 99))
def test_a_curve_is_read_as_numpy_reads_it(scores: list[int], asked: float) -> None:
    scores.sort()
    probabilities = [number / len(scores) for number in range(len(scores))]
    read = Curve(scores=scores, probabilities=probabilities).read
    for score in (asked, *scores):
        assert read(score) == pytest.approx(float(np.interp(score, scores, probabilities)))


def test_one_judgement_equals_the_two_asked_apart(learned: Learned) -> None:
    text = "How do I configure TLS for the load balancer?"
    judgement, intent = learned.judge(text), learned.intent(text)
    assert judgement.uplift == learned.uplift(text)
    assert (judgement.intent, judgement.confidence, judgement.is_known) == (
        intent.name,
        intent.confidence,
        intent.is_known,
    )


@pytest.mark.parametrize(
    ("text", "intent"),
    [
        ("Where can I find my last invoice?", "simple_faq"),
        ("Write a Python function that merges two sorted lists.", "code_gen"),
        ("A block of mass 2 kg slides down a slope of 30 degrees. What is its acceleration?", "technical"),
        ("Compare the three offers, weigh their risks and recommend a strategy with a plan.", "complex"),
    ],
)
def test_typical_prompts_find_their_route(learned: Learned, text: str, intent: str) -> None:
    assert learned.intent(text).name == intent


def test_what_no_label_reaches_is_complex(learned: Learned) -> None:
    head = learned.heads["lesson"]
    terms = head.terms("Where can I find my last invoice?")
    strict = replace(head, threshold=1.0).classify(terms)
    assert strict.name == "complex"
    assert strict.confidence == pytest.approx(1.0 - head.classify(terms).confidence)


@pytest.mark.parametrize(
    ("labels", "text", "intent"),
    [
        ("clinc150", "how much money do i have in my bank account", "balance"),
        ("clinc150", "please set an alarm for seven in the morning", "alarm"),
        ("clinc150", "asdf wobble frumious quarks", "oos"),
        ("banking77", "My card has still not arrived, where is it?", "card_arrival"),
        ("banking77", "I lost my phone, what should I do?", "lost_or_stolen_phone"),
    ],
)
def test_public_label_sets_are_known(learned: Learned, labels: str, text: str, intent: str) -> None:
    assert learned.intent(text, labels).name == intent


def test_confidence_outside_is_what_the_best_label_lacks(learned: Learned) -> None:
    head = learned.heads["clinc150"]
    text = "asdf wobble frumious quarks"
    best = float(head.bag.probabilities(head.terms(text)).max())
    assert best < head.threshold
    assert learned.intent(text, "clinc150").confidence == pytest.approx(1.0 - best)


def test_a_vector_has_its_say(learned: Learned) -> None:
    head = learned.heads["clinc150"]
    assert head.sense is not None
    wanted = head.labels.index("weather")
    direction = head.sense.weights[:, wanted] - head.sense.weights.mean(axis=1)
    vector = (direction / np.linalg.norm(direction)).astype(np.float32)
    by_words = head.bag.probabilities(head.terms("umbrella tomorrow"))[wanted]
    answer = learned.intent("umbrella tomorrow", "clinc150", vector)
    assert answer.name == "weather"
    assert answer.confidence > by_words / 2


def test_an_unknown_label_set_is_refused_by_name(learned: Learned) -> None:
    with pytest.raises(InvalidArgument, match="clinc150"):
        learned.intent("hello", "atis")


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match=r"services\.router\.training\.train"):
        Learned.load(tmp_path / "absent.safetensors")


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(SHIPPED.read_bytes()[:1000])
    with pytest.raises(FailedPrecondition):
        read_weights(path)


def test_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"a": np.zeros(1)}, path, metadata={"quartet": '{"format": "other"}'})
    with pytest.raises(FailedPrecondition, match="other"):
        read_weights(path)


def test_weights_come_back_as_written_and_the_bytes_are_the_same(tmp_path: Path) -> None:
    table = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
    rounded, scale = quantise(table)
    weights = Weights(arrays={"t": rounded, "t.scale": scale}, description={"note": "é"})
    write_weights(tmp_path / "one", weights)
    write_weights(tmp_path / "two", weights)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    back = read_weights(tmp_path / "one")
    assert back.floats("t") == pytest.approx(table, abs=float(scale.max()))
    assert back.description["note"] == "é"
