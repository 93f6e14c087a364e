"""What the shipped rules settle of some sets of prompts, and what is left to the classifier and the default.

`python bench/rules.py [--data DIR] [--config DIR] [--show N]`: DIR of --data holds the routing files, without
it QUARTET_DATA_DIR's folder `routing/` does; --config is the folder of routes.yaml. --show prints N of each
set that nothing recognised, for those who write rules.

None of the sets is a record of a backend's traffic: two are what people say to an assistant and to a bank's
help desk, one is a benchmark of conversations, the others are examinations. The first three come nearest.
Whether a rule chose the right route nobody has marked; told is how often the learned classifier, where it is
sure, would have chosen the same.
"""

import argparse
import gzip
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import orjson

from quartet.common.v1 import message_pb2 as message
from quartet.router.v1.router_pb2 import Prompt
from services.router.adapters.config.models import read_models
from services.router.adapters.config.routes import read_routes
from services.router.domain.features import read_features
from services.router.domain.judgement import Judged
from services.router.domain.recognition import BY_CLASSIFIER, BY_DEFAULT, Choice, choose_route
from services.router.domain.routes import RouteTable
from services.router.learned.learned import Learned
from services.router.training.corpus import data_directory

SETS = {
    "commands to an assistant": ("intent_clinc150",),
    "questions to a help desk": ("intent_banking77",),
    "conversations (MT-Bench)": ("routellm_mtbench",),
    "mixed tasks": ("llmrouter_mix",),
    "knowledge examinations": ("routellm_mmlu", "mmlupro_gemini15"),
    "mathematics": ("routellm_gsm8k", "zeroeval_gsm", "zeroeval_math_l5"),
    "code reading": ("zeroeval_crux",),
}
ORDINARY = tuple(SETS)[:3]


Found = tuple[Choice, bool | None]
"""What decided, and whether the classifier, where it is sure, says the same."""


def main() -> None:
    """Print a line for each set, and the mean over those that come near to ordinary traffic."""
    parser = argparse.ArgumentParser(description="Count what the shipped rules settle.")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--config", type=Path, default=Path("config"))
    parser.add_argument("--show", type=int, default=0, help="print so many that nothing recognised")
    options = parser.parse_args()
    directory = data_directory(options.data)
    routes = read_routes(options.config / "routes.yaml", read_models(options.config / "models.yaml")[0])
    learned = Learned.load()
    print(
        f"{'':26}{'prompts':>9}{'rules':>8}{'classifier':>12}{'default':>9}{'agreed':>8}  routes of the rules"
    )
    settled: list[float] = []
    for name, files in SETS.items():
        texts = [text for file in files for text in _read(directory / f"{file}.jsonl.gz")]
        found = [_choose(routes, learned, text) for text in texts]
        share = _print_line(name, found)
        if name in ORDINARY:
            settled.append(share)
        pairs = zip(texts, found, strict=True)
        unknown = [text for text, (choice, _) in pairs if choice.rule_name == BY_DEFAULT]
        _show(unknown, options.show)
    print(f"settled by rules, mean of the first {len(settled)}: {sum(settled) / len(settled):.1%}")


def _read(path: Path) -> list[str]:
    with gzip.open(path) as lines:
        rows = [orjson.loads(line) for line in lines]
    return [row.get("text") or row["prompt"] for row in rows]


def _choose(routes: RouteTable, learned: Learned, text: str) -> Found:
    turn = message.Message(role=message.ROLE_USER, parts=[message.Part(text=text)])
    judged = Judged(read_features(Prompt(messages=[turn])), learned)
    choice = choose_route(routes, judged, models_only=False)
    judgement, least = judged.judgement, routes.classifier_confidence or 0.0
    if judgement is None or not judgement.is_known or judgement.confidence < least:
        return choice, None
    return choice, judgement.intent == choice.route.name


def _print_line(name: str, found: Sequence[Found]) -> float:
    by_rule = [(choice.route.name, agreed) for choice, agreed in found if choice.rule is not None]
    ways = Counter(choice.rule_name for choice, _ in found)
    shares = [len(by_rule), ways[BY_CLASSIFIER], ways[BY_DEFAULT]]
    rules, classifier, default = (count / len(found) for count in shares)
    sure = [agreed for _, agreed in by_rule if agreed is not None]
    routes = Counter(route for route, _ in by_rule).most_common()
    told = ", ".join(f"{route} {count / len(found):.0%}" for route, count in routes)
    line = f"{name:26}{len(found):9,}{rules:8.1%}{classifier:12.1%}{default:9.1%}"
    print(f"{line}{sum(sure) / max(len(sure), 1):8.0%}  {told}")
    return rules


def _show(texts: Sequence[str], count: int) -> None:
    for text in random.Random(0).sample(texts, min(count, len(texts))):  # noqa: S311 - nothing secret
        print(f"    {text[:150]!r}")


if __name__ == "__main__":
    main()
