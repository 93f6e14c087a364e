"""Fills in what a new golden file leaves out: `python -m tests.golden.write`. What is there stays."""

import json
import sys
from pathlib import Path

from tests.golden.roundtrip import HERE, MODELS, Requests, answer, refuse, stream

CLIENTS = ("openai", "anthropic", "responses")


def main() -> None:
    requests = Requests()
    for path in sorted(HERE.glob("*/*/*.json")):
        golden = json.loads(path.read_text(encoding="utf-8"))
        before = json.dumps(golden)
        dialect, kind = path.parts[-3:-1]
        if kind == "requests":
            golden.setdefault(
                "providers", {name: requests.send(dialect, golden["request"], name) for name in MODELS}
            )
        else:
            clients = golden.setdefault("clients", {})
            for client in CLIENTS:
                written = clients.setdefault(client, {})
                if "reply" in golden:
                    written.setdefault("body", answer(dialect, golden["reply"], client))
                if "events" in golden:
                    written.setdefault("events", stream(dialect, golden["events"], client))
        if json.dumps(golden) != before:
            _write(path, golden)
    path = HERE / "errors.json"
    cases = json.loads(path.read_text(encoding="utf-8"))
    if not all("clients" in case for case in cases):
        for case in cases:
            case.setdefault(
                "clients", {name: refuse(case["status"], case["message"], name) for name in MODELS}
            )
        _write(path, cases)


def _write(path: Path, golden: object) -> None:
    path.write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    sys.stdout.write(f"{path.relative_to(HERE)} written: read it before you commit it\n")


if __name__ == "__main__":
    main()
