"""Whether a suite is up, found by asking each of its parts something cheap."""

import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, TypeVar

from quartet.common.v1.document_pb2 import Collection
from quartet.gateway.v1.document_pb2 import ListCollectionsRequest
from quartet.gateway.v1.gateway_pb2 import ListModelsRequest, Model
from quartet.gateway.v1.run_pb2 import ListRunsRequest
from services.cli.client import Client
from services.cli.render import plain
from services.cli.session import advise, describe
from services.kit.errors import QuartetError, Unauthenticated, Unavailable

TIMEOUT_S = 5.0
"""For each part."""

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of the suite; `problem` is empty when it answered."""

    name: str
    took_s: float
    problem: str = ""
    advice: str = ""

    def row(self) -> tuple[str, str, str]:
        """As a table has it."""
        return self.name, self.problem or "up", f"{self.took_s * 1000:.0f} ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What a look at a suite found; `version` is that of this program."""

    url: str
    version: str
    parts: tuple[Part, ...]
    models: Sequence[Model]
    collections: Sequence[Collection]

    @property
    def up(self) -> bool:
        """Whether every part answered."""
        return not any(part.problem for part in self.parts)

    @property
    def advice(self) -> str:
        """What to do about the first part that is not up."""
        return next((part.advice for part in self.parts if part.problem), "")

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "up": self.up,
            "url": self.url,
            "version": self.version,
            "parts": [
                {"name": part.name, "up": not part.problem, "problem": part.problem, "took_s": part.took_s}
                for part in self.parts
            ],
            "models": [plain(model) for model in self.models],
            "collections": [plain(collection) for collection in self.collections],
        }


async def examine(client: Client) -> Status:
    """Asks the edge's health, then through it the router, the pipeline and the orchestrator.

    When the edge cannot be reached or does not take the key, nothing else is asked.
    """
    parts: list[Part] = []

    async def ask(name: str, answer: Awaitable[Found]) -> Found | None:
        part, found = await _ask(client, name, answer)
        parts.append(part)
        return found

    models = collections = None
    await ask("gateway", _check_health(client))
    if not parts[-1].problem:
        models = await ask("router", client.gateway.list_models(ListModelsRequest(), client.call(TIMEOUT_S)))
    if parts[-1].name == "router":
        collections = await ask(
            "pipeline",
            client.documents.list_collections(ListCollectionsRequest(page_size=1000), client.call(TIMEOUT_S)),
        )
        await ask("orchestrator", client.runs.list_runs(ListRunsRequest(page_size=1), client.call(TIMEOUT_S)))
    return Status(
        url=client.settings.url,
        version=version("quartet"),
        parts=tuple(parts),
        models=models.models if models else (),
        collections=collections.collections if collections else (),
    )


async def _check_health(client: Client) -> None:
    if not await client.is_serving(TIMEOUT_S):
        raise Unavailable("it runs and takes no calls: it starts or ends", reason="NOT_SERVING")


async def _ask(client: Client, name: str, answer: Awaitable[Found]) -> tuple[Part, Found | None]:
    started = time.monotonic()
    try:
        found = await answer
    except QuartetError as error:
        part = Part(
            name="key" if isinstance(error, Unauthenticated) else name,
            took_s=time.monotonic() - started,
            problem=describe(error, client),
            advice=advise(error, client)
            or "Start the suite with `make run`, or look at what the one that runs says.",
        )
        return part, None
    return Part(name=name, took_s=time.monotonic() - started), found
