"""What resilience costs a call that goes well: CPU time on one thread.

`python bench/resilience.py [--rounds N]`. Exits 1 when the way through the breakers of a model with one
deployment has a median above 15 µs.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from quartet.common.v1.generation_pb2 import Budget, Completion, FinishReason, GenerationSpec
from quartet.common.v1.message_pb2 import ROLE_ASSISTANT, Message, Part
from services.kit.call import Call
from services.router.adapters.config.models import read_models
from services.router.adapters.waiting import read_rest_s
from services.router.domain.budget import Spending
from services.router.domain.catalogue import Balance, Model, Site
from services.router.domain.checking import Cascade, object_to
from services.router.domain.fleet import Fleet
from services.router.domain.retrying import Retrying, RetryPolicy

AIM_US = 15.0
BATCH = 200


def main() -> None:
    """Print the figures and judge the first."""
    parser = argparse.ArgumentParser(description="Measure the CPU time of resilience.")
    parser.add_argument("--rounds", type=int, default=200)
    rounds = parser.parse_args().rounds
    catalogue, _ = read_models(Path(__file__).parents[1] / "config" / "models.yaml")
    one = catalogue.find("gpt-6-luna")
    sites = tuple(Site(provider=name, upstream="luna") for name in ("openai", "east", "west"))
    three = replace(one, sites=sites, balance=Balance.LEAST_LATENCY)
    headers = {f"x-{number}": "value" for number in range(20)} | {"x-ratelimit-remaining-requests": "99"}
    text = "The capital of France is Paris, a city on the Seine. " * 40
    message = Message(role=ROLE_ASSISTANT, parts=[Part(text=text)])
    answer = Completion(message=message, finish_reason=FinishReason.FINISH_REASON_STOP)
    fleet = make_fleet(one)
    way = measure_calls("choose, begin, end: 1 deployment", one, rounds)
    measure_calls("choose, begin, end: 3, least latency", three, rounds)
    measure("may it be asked? (each candidate)", lambda: fleet.why_resting(one), rounds)
    measure("rate headers of an answer", lambda: read_rest_s(headers), rounds)
    check = Cascade()
    measure(
        "check of a cheap answer of 2 KB", lambda: object_to(answer, message, GenerationSpec(), check), rounds
    )
    if way > AIM_US:
        sys.exit("The aim is missed.")


def make_fleet(model: Model) -> Fleet:
    """The deployments of one model."""
    return Fleet([model], {site.provider for site in model.all_sites()})


def measure_calls(name: str, model: Model, rounds: int) -> float:
    """Time what a call passes through in `Answering`, without the call."""
    retrying = Retrying(make_fleet(model), RetryPolicy())
    call = Call.root(timeout_s=3600)

    spending = Spending(Budget())

    async def pass_through() -> float:
        taken: list[float] = []
        for _ in range(rounds):
            start = time.thread_time_ns()
            for _ in range(BATCH):
                attempts = await retrying.attempts((model,), call)
                with attempts.deployment.begin() as trial:
                    await trial.admit(100, spending, 1.0)
                    trial.note_first_word()
            taken.append((time.thread_time_ns() - start) / BATCH / 1e3)
        return report(name, taken)

    return asyncio.run(pass_through())


def measure(name: str, work: Callable[[], object], rounds: int) -> float:
    """Time a function, in batches."""
    taken: list[float] = []
    for _ in range(rounds):
        start = time.thread_time_ns()
        for _ in range(BATCH):
            work()
        taken.append((time.thread_time_ns() - start) / BATCH / 1e3)
    return report(name, taken)


def report(name: str, taken_us: list[float]) -> float:
    """Print and return the median."""
    taken_us.sort()
    median = taken_us[len(taken_us) // 2]
    print(f"{name:40} median {median:6.2f} µs")
    return median


if __name__ == "__main__":
    main()
