"""What the learned part of a decision costs: CPU time of one call on one thread, and the time to load.

`python bench/decision.py [--rounds N]`; prompts are made up, so no data is needed.
Exits 1 when a 4 KB prompt's median is above 200 µs, its 99th percentile above 1 ms, or loading above 200 ms.
"""

import argparse
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

from services.router.learned.learned import Learned

MEDIAN_AIM_US = 200.0
P99_AIM_US = 1_000.0
LOAD_AIM_MS = 200.0
PROMPT_CHARS = 4_096
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
    if median > MEDIAN_AIM_US or p99 > P99_AIM_US or load_ms > LOAD_AIM_MS:
        raise SystemExit("An aim is missed.")


def make_prompts(length_chars: int, count: int = 200) -> list[str]:
    """Make prompts of English-like words, numbers and marks; each is another one."""
    generator = random.Random(0)  # noqa: S311 - nothing secret
    syllables = ("ta", "re", "ing", "on", "mi", "a", "cal", "de", "er", "pro", "s", "tion", "li", "un", "co")
    words = ["".join(generator.choices(syllables, k=generator.randint(1, 4))) for _ in range(5_000)]
    words += ["the", "of", "which", "each", "=", "12", "3.5", "x", "(b)", "if", "not", "?\n", "."] * 60
    return [" ".join(generator.choices(words, k=length_chars // 3))[:length_chars] for _ in range(count)]


def measure(
    name: str, judge: Callable[[str], object], prompts: Sequence[str], rounds: int
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
    print(f"{name:34} median {median:6.0f} µs  p99 {p99:6.0f} µs")
    return median, p99


if __name__ == "__main__":
    main()
