"""Who is to serve a request, from the name that stands in its `model` field."""

import re
from dataclasses import dataclass
from enum import Enum

from quartet.common.v1 import decision_pb2
from quartet.gateway.v1 import gateway_pb2
from quartet.router.v1 import router_pb2
from services.gateway.domain.identity import Identity
from services.kit.errors import InvalidArgument, PermissionDenied

DEFAULT_COLLECTION = "default"
RAG_PIPELINE = "rag_answer"
MAX_NAME_CHARS = 256
_COLLECTION = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")


class Kind(Enum):
    """The ways in which a request is served."""

    AUTO = "auto"
    MODEL = "model"
    ROUTE = "route"
    PIPELINE = "pipeline"
    AGENT = "agent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Who is to serve a request.

    Attributes:
        name: Of the model, route or pipeline; empty for the other kinds.
        collection: What a pipeline or the orchestrator reads; empty for the other kinds.
    """

    kind: Kind
    name: str = ""
    collection: str = ""

    @property
    def is_routed(self) -> bool:
        """True when the router decides or serves."""
        return self.kind in (Kind.AUTO, Kind.MODEL, Kind.ROUTE)

    @property
    def model(self) -> str:
        """The named model; empty when none is."""
        return self.name if self.kind is Kind.MODEL else ""

    def for_router(self) -> router_pb2.Target | None:
        """As the router takes it; None leaves the choice to it."""
        if self.kind is Kind.MODEL:
            return router_pb2.Target(model=self.name)
        return router_pb2.Target(route=self.name) if self.kind is Kind.ROUTE else None

    def handler(self) -> decision_pb2.Handler:
        """The handler that a name stands for by itself; only for pipelines and the orchestrator."""
        if self.kind is Kind.PIPELINE:
            pipeline = decision_pb2.PipelineTarget(name=self.name, collection=self.collection)
            return decision_pb2.Handler(pipeline=pipeline)
        return decision_pb2.Handler(agent=decision_pb2.AgentTarget(collection=self.collection))

    def check_scope(self, key: Identity) -> None:
        """Raises PermissionDenied when the key may not use it; `auto` counts as a route."""
        if self.is_routed:
            kind, name = ("model", self.name) if self.kind is Kind.MODEL else ("route", self.name or "auto")
        else:
            kind, name = "collection", self.collection
        if not key.allows_target(kind, name):
            message = (
                f"this key may not use the {kind} {name!r}: use one that its scopes name, or another key"
            )
            raise PermissionDenied(message, reason="SCOPE_MISSING", metadata={"scope": f"{kind}:{name}"})


AUTO = Target(kind=Kind.AUTO)


def parse_target(name: str) -> Target:
    """Reads a name as `/v1/models` lists it; whatever has no prefix of ours is a model.

    Raises:
        InvalidArgument: `model` is empty, too long, or has a prefix without a usable name behind it.
    """
    if not name or len(name) > MAX_NAME_CHARS:
        raise InvalidArgument.field(
            "model",
            f"must have 1 to {MAX_NAME_CHARS} characters: name a model, or `auto`",
            reason="INVALID_REQUEST",
        )
    if name == "auto":
        return AUTO
    if name == "agent":
        return Target(kind=Kind.AGENT, collection=DEFAULT_COLLECTION)
    prefix, slash, rest = name.partition("/")
    if not slash:
        return Target(kind=Kind.MODEL, name=name)
    if prefix in ("rag", "agent"):
        _check_collection(rest, name)
        if prefix == "agent":
            return Target(kind=Kind.AGENT, collection=rest)
        return Target(kind=Kind.PIPELINE, name=RAG_PIPELINE, collection=rest)
    if prefix in ("route", "pipeline"):
        if not rest or len(rest) > 128:
            raise InvalidArgument.field(
                "model", f"write {prefix}/<name>, with at most 128 characters", reason="INVALID_REQUEST"
            )
        if prefix == "route":
            return Target(kind=Kind.ROUTE, name=rest)
        return Target(kind=Kind.PIPELINE, name=rest, collection=DEFAULT_COLLECTION)
    return Target(kind=Kind.MODEL, name=name)


def read_target(target: gateway_pb2.Target) -> Target:
    """Reads the native form of a target; absent means `auto`."""
    kind = target.WhichOneof("kind")
    if kind == "name":
        return parse_target(target.name)
    if kind == "route":
        return Target(kind=Kind.ROUTE, name=target.route)
    if kind == "pipeline":
        collection = target.pipeline.collection or DEFAULT_COLLECTION
        _check_collection(collection, collection)
        return Target(kind=Kind.PIPELINE, name=target.pipeline.name, collection=collection)
    if kind == "agent":
        collection = target.agent.collection or DEFAULT_COLLECTION
        _check_collection(collection, collection)
        return Target(kind=Kind.AGENT, collection=collection)
    return AUTO


def _check_collection(collection: str, name: str) -> None:
    if not _COLLECTION.fullmatch(collection):
        message = (
            f"{name!r} names no collection: write lower-case letters, digits, `.`, `_` and `-`, "
            "at most 128 characters, the first one a letter or a digit"
        )
        raise InvalidArgument.field("model", message, reason="INVALID_REQUEST")
