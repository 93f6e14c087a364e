"""A route whose cheaper models answer first, and what comes of a request to it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from quartet.common.v1.decision_pb2 import CacheOutcome
from quartet.common.v1.generation_pb2 import Usage
from quartet.router.v1 import router_pb2 as pb
from services.kit.call import Call

CONFIG = Path(__file__).parents[1] / "config"
CHEAP, STRONG = "gpt-6-luna", "gpt-6.1-sol"


def configure(folder: Path, **cascade: Any) -> Path:
    """The shipped files, with a cascade on the route `complex`."""
    routes = yaml.safe_load((CONFIG / "routes.yaml").read_text(encoding="utf-8"))
    route = next(route for route in routes["routes"] if route["name"] == "complex")
    route.update(candidates=[STRONG], cheaper=[CHEAP], cascade=cascade)
    route.pop("shadow")
    (folder / "routes.yaml").write_text(yaml.safe_dump(routes), encoding="utf-8")
    (folder / "models.yaml").write_bytes((CONFIG / "models.yaml").read_bytes())
    return folder


@dataclass
class Heard:
    """What came of a request; `decided` is the model that the decision names."""

    text: str = ""
    decided: str = ""
    answered: str = ""
    policy: str = ""
    cache: str = ""
    objections: dict[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    usage: Usage = field(default_factory=Usage)

    def decide(self, decision: Any) -> None:
        self.decided, self.policy, self.warnings = decision.model, decision.policy, list(decision.warnings)
        self.cache = CacheOutcome.Name(decision.cache).removeprefix("CACHE_OUTCOME_").lower()
        self.objections = {each.model: each.rejected_because for each in decision.candidates}


async def hear(service: Any, prompt: pb.Prompt, call: Call, *, streamed: bool) -> Heard:
    heard = Heard()
    if streamed:
        async for event in service.stream_generate(pb.StreamGenerateRequest(prompt=prompt), call):
            heard.text += event.delta.text
            if event.HasField("decision"):
                heard.decide(event.decision)
            elif event.HasField("end"):
                heard.answered, heard.usage = event.end.model, event.end.usage
    else:
        answer = await service.generate(pb.GenerateRequest(prompt=prompt), call)
        heard.decide(answer.decision)
        heard.text = "".join(part.text for part in answer.completion.message.parts)
        heard.answered, heard.usage = answer.completion.model, answer.completion.usage
    return heard
