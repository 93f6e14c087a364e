from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quartet.common.v1 import generation_pb2
from quartet.router.v1 import router_pb2
from services.kit.call import Call
from services.kit.errors import FailedPrecondition
from services.kit.usage import add_usage
from services.pipeline.domain.configuration import EmbedderFigures
from services.pipeline.ports import Router

BATCH_TEXTS = 64
"""Texts a call: some 4 s of MiniLM's time, so that a stop of a job is noticed and no call grows long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """Vectors of length 1 in the order of the texts, one a row."""

    vectors: NDArray[np.float32]
    model: str
    usage: generation_pb2.Usage


class Embedder:
    """Embeds texts by the router, and knows what each model needs."""

    def __init__(self, router: Router, figures: Mapping[str, EmbedderFigures]) -> None:
        self._router = router
        self._figures = figures

    def figures(self, model: str) -> EmbedderFigures:
        """A model's figures; raises FailedPrecondition when pipelines.yaml has none."""
        try:
            return self._figures[model]
        except KeyError:
            raise FailedPrecondition(
                f"The embedding model {model!r} has no figures: add it to `embedders` of pipelines.yaml "
                f"(there are {', '.join(self._figures)}).",
                reason="EMBEDDER_NOT_CALIBRATED",
                metadata={"model": model},
            ) from None

    async def embed(
        self,
        texts: Sequence[str],
        *,
        model: str,
        call: Call,
        timeout_s: float,
        budget: generation_pb2.Budget | None = None,
        cache_control: str = "",
    ) -> Embedded:
        """Vectors of at least one text; errors are the router's. `timeout_s` bounds each call of 64 texts."""
        rows: list[NDArray[np.float32]] = []
        usage = generation_pb2.Usage()
        for start in range(0, len(texts), BATCH_TEXTS):
            request = router_pb2.EmbedRequest(
                model=model,
                texts=texts[start : start + BATCH_TEXTS],
                budget=budget,
                cache_control=cache_control,
            )
            response = await self._router.embed(request, call.outgoing(timeout_s=timeout_s))
            batch = np.frombuffer(response.vectors, dtype="<f4").reshape(-1, response.dimension)
            norms = np.linalg.norm(batch, axis=1, keepdims=True)
            rows.append(batch / np.maximum(norms, 1e-12))
            add_usage(usage, response.usage)
            # The later batches must be of the very model that the first one got.
            model = response.model
        return Embedded(vectors=np.concatenate(rows), model=model, usage=usage)
