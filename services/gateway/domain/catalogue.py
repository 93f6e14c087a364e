from typing import TYPE_CHECKING

from quartet.gateway.v1 import gateway_pb2
from quartet.pipeline.v1 import pipeline_pb2
from quartet.router.v1 import router_pb2
from services.gateway.domain.identity import Identity
from services.gateway.domain.models import Models
from services.gateway.domain.targets import AUTO, parse_target
from services.kit.call import Call
from services.kit.errors import NotFound, PermissionDenied, Unavailable

if TYPE_CHECKING:
    from services.gateway.ports import Pipeline, Router

MAX_COLLECTIONS = 1000
_SAME_FIELDS = (
    "id",
    "provider",
    "context_window",
    "max_output_tokens",
    "input_micro_usd_per_mtok",
    "output_micro_usd_per_mtok",
    "successor",
    "available",
    "unavailable_because",
)


class Catalogue:
    """Everything that a caller may name as a model.

    Attributes:
        models: Those of the router, kept at hand.
    """

    def __init__(self, router: "Router", pipeline: "Pipeline", models: Models) -> None:
        self._router = router
        self._pipeline = pipeline
        self.models = models

    async def list_models(self, key: Identity, call: Call) -> list[gateway_pb2.Model]:
        """What the key may use: `auto`, routes, models, pipelines, collections and the orchestrator.

        While the pipeline service is away its names are left out: chat does without it.
        """
        routed = await self._router.list_models(router_pb2.ListModelsRequest(), call)
        names = [_named("auto", "auto"), *(_named(f"route/{name}", "route") for name in routed.routes)]
        names += [_model(model) for model in routed.models]
        names += await self._list_piped(call)
        return [model for model in names if _is_allowed(model, key)]

    async def get_model(self, name: str, key: Identity, call: Call) -> gateway_pb2.Model:
        """The one of that name or alias; raises NotFound."""
        for model in await self.list_models(key, call):
            if name == model.id or name in model.aliases:
                return model
        raise NotFound(
            f"there is no model {name!r} for this key: see GET /v1/models",
            reason="MODEL_NOT_FOUND",
            metadata={"model": name},
        )

    async def check_name(self, name: str, key: Identity, call: Call) -> None:
        """Raises NotFound for a name that leads nowhere; those of models and routes need no call."""
        if name == AUTO.kind.value or await self.models.find(name) is not None:
            return
        if name.removeprefix("route/") not in (await self.models.listing()).routes:
            await self.get_model(name, key, call)

    async def _list_piped(self, call: Call) -> list[gateway_pb2.Model]:
        wanted = pipeline_pb2.ListCollectionsRequest(page_size=MAX_COLLECTIONS)
        try:
            pipelines = await self._pipeline.list_pipelines(pipeline_pb2.ListPipelinesRequest(), call)
            collections = await self._pipeline.list_collections(wanted, call)
        except Unavailable:
            return []
        names = [collection.name for collection in collections.collections]
        return [
            *(_named(f"pipeline/{pipeline.name}", "pipeline") for pipeline in pipelines.pipelines),
            *(_named(f"rag/{name}", "collection") for name in names),
            _named("agent", "agent"),
            *(_named(f"agent/{name}", "agent") for name in names),
        ]


def _named(name: str, kind: str) -> gateway_pb2.Model:
    return gateway_pb2.Model(id=name, kind=kind, available=True)


def _model(model: router_pb2.Model) -> gateway_pb2.Model:
    found = gateway_pb2.Model(
        kind="model",
        aliases=model.aliases,
        capabilities=model.capabilities,
        longer_prices=model.longer_prices,
        **{name: getattr(model, name) for name in _SAME_FIELDS},
    )
    if model.HasField("shutdown_time"):
        found.shutdown_time.CopyFrom(model.shutdown_time)
    return found


def _is_allowed(model: gateway_pb2.Model, key: Identity) -> bool:
    try:
        parse_target(model.id).check_scope(key)
    except PermissionDenied:
        return False
    return True
