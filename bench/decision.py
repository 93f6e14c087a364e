"""What a decision costs, and its learned part alone: CPU time of one call on one thread, and of loading.

`python bench/decision.py [--rounds N]`; prompts are made up, so no data is needed. Whole decisions are made
with the shipped tables: of prompts that the judge is asked of, without and within a session, of texts that it
judged a moment ago, with three rules more (by label, session, language), and of prompts that a rule settles.
Exits 1 when the learned part's median of a 4 KB prompt is above 200 µs, the 99th percentile of it or of a
whole decision above 1 ms, or loading above 200 ms.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from quartet.common.v1 import message_pb2 as message
from quartet.router.v1.router_pb2 import Prompt
from services.router.adapters.config.models import read_models
from services.router.adapters.config.routes import read_routes
from services.router.domain.catalogue import LOCAL, Dialect, ProviderState
from services.router.domain.decision import Decider
from services.router.domain.judgement import Judge, Remembering
from services.router.domain.staying import Memory
from services.router.learned.learned import Learned

MEDIAN_AIM_US = 200.0
P99_AIM_US = 1_000.0
LOAD_AIM_MS = 200.0
PROMPT_CHARS = 4_096
CONFIG = Path("config")
T = TypeVar("T")
RULES = """
  - {name: label, priority: 1000, route: complex, labels: {tier: gold}}
  - {name: session, priority: 999, route: complex, session: true, keywords: [never said]}
  - {name: language, priority: 998, route: technical, language: [de, fr]}
tests:
"""
PROVIDERS = {
    "openai": ProviderState(name="openai", dialect=Dialect.OPENAI),
    "anthropic": ProviderState(name="anthropic", dialect=Dialect.ANTHROPIC),
    LOCAL: ProviderState(name=LOCAL, dialect=Dialect.LOCAL),
}
_LOAD = (
    "import time; start = time.perf_counter(); from services.router.learned.learned import Learned; "
    "middle = time.perf_counter(); Learned.load(); end = time.perf_counter(); "
    "print(middle - start, end - middle)"
)


def main() -> None:
    """Print the figures and judge them."""
    parser = argparse.ArgumentParser(description="Measure the CPU time of the learned decision.")
    parser.add_argument("--rounds", type=int, default=5_000)
    rounds = parser.parse_args().rounds
    output = subprocess.run([sys.executable, "-c", _LOAD], check=True, capture_output=True, text=True)
    import_ms, load_ms = (1e3 * float(value) for value in output.stdout.split())
    print(f"import {import_ms:.0f} ms, load {load_ms:.0f} ms, in a fresh process")
    learned = Learned.load()
    long, short = make_prompts(PROMPT_CHARS), make_prompts(60)
    median, p99 = measure("uplift and lesson intent, 4 KB", learned.judge, long, rounds)
    measure("uplift and lesson intent, 60 B", learned.judge, short, rounds)
    measure("uplift alone, 4 KB", learned.uplift, long, rounds)
    for labels in learned.heads:
        for size, prompts in (("4 KB", long), ("60 B", short)):
            name = f"intent {labels}, {size}"
            measure(name, partial(learned.intent, labels=labels), prompts, rounds)
    whole = measure_decisions(learned, rounds)
    if median > MEDIAN_AIM_US or max(p99, whole) > P99_AIM_US or load_ms > LOAD_AIM_MS:
        raise SystemExit("An aim is missed.")


def measure_decisions(learned: Learned, rounds: int) -> float:
    """Time whole decisions; returns the greatest 99th percentile, in µs."""
    shipped = make_decider(CONFIG, learned)
    remembering = make_decider(CONFIG, learned, Remembering(learned))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "models.yaml").write_bytes((CONFIG / "models.yaml").read_bytes())
        routes = (CONFIG / "routes.yaml").read_text(encoding="utf-8")
        (folder / "routes.yaml").write_text(routes.replace("\ntests:\n", RULES, 1), encoding="utf-8")
        extended = make_decider(folder, learned)
    last = Memory(model="gpt-6.1-terra", provider="openai", cached_tokens=3_000)
    slowest = 0.0
    for size, length_chars in (("4 KB", PROMPT_CHARS), ("60 B", 60)):
        prompts = make_prompts(length_chars)
        judged = [text for text in prompts if _is_judged(shipped, text)]
        settled = [text for text in prompts if text not in judged]
        alone, within = _ask(judged, session=""), _ask(judged, session="s1")
        for what, decide, asked in (
            ("decision", shipped.decide, alone),
            ("decision in a session", partial(shipped.decide, last=last), within),
            ("decision of a known text", remembering.decide, alone),
            ("decision, more rules", partial(extended.decide, last=last), within),
            (f"decision by a rule ({len(settled)} of 200)", shipped.decide, _ask(settled, session="")),
        ):
            slowest = max(slowest, measure(f"{what}, {size}", decide, asked, rounds)[1])
    return slowest


def make_decider(folder: Path, learned: Learned, judge: Judge | None = None) -> Decider:
    """Make a decider of a folder's tables, with every vendor configured; the learned one is its judge."""
    catalogue = read_models(folder / "models.yaml")[0]
    routes = read_routes(folder / "routes.yaml", catalogue)
    today = datetime.now(UTC).date()
    return Decider(
        catalogue, routes, PROVIDERS, lambda: today, judge=judge or learned, calibration=learned.calibration
    )


def _is_judged(decider: Decider, text: str) -> bool:
    """Whether the decision asked the judge; what it said is kept in what is known of the prompt."""
    (prompt,) = _ask([text], session="")
    judged = decider.judge(prompt)
    decider.decide(prompt, judged=judged)
    return "judgement" in vars(judged)


def _ask(texts: Sequence[str], *, session: str) -> list[Prompt]:
    turns = (message.Message(role=message.ROLE_USER, parts=[message.Part(text=text)]) for text in texts)
    return [Prompt(messages=[turn], session=session, labels={"tier": "silver"}) for turn in turns]


def make_prompts(length_chars: int, count: int = 200) -> list[str]:
    """Make prompts of English-like words, numbers and marks; each is another one."""
    generator = random.Random(0)  # noqa: S311 - nothing secret
    syllables = ("ta", "re", "ing", "on", "mi", "a", "cal", "de", "er", "pro", "s", "tion", "li", "un", "co")
    words = ["".join(generator.choices(syllables, k=generator.randint(1, 4))) for _ in range(5_000)]
    words += ["the", "of", "which", "each", "=", "12", "3.5", "x", "(b)", "if", "not", "?\n", "."] * 60
    return [" ".join(generator.choices(words, k=length_chars // 3))[:length_chars] for _ in range(count)]


def measure(
    name: str, judge: Callable[[T], object], prompts: Sequence[T], rounds: int
) -> tuple[float, float]:
    """Time single calls after a warm-up; returns the median and 99th percentile of CPU time in µs."""
    taken: list[int] = []
    for number in range(-rounds // 10, rounds):
        prompt = prompts[number % len(prompts)]
        start = time.thread_time_ns()
        judge(prompt)
        if number >= 0:
            taken.append(time.thread_time_ns() - start)
    taken.sort()
    median, p99 = taken[len(taken) // 2] / 1e3, taken[len(taken) * 99 // 100] / 1e3
    print(f"{name:36} median {median:6.0f} µs  p99 {p99:6.0f} µs")
    return median, p99


if __name__ == "__main__":
    main()
