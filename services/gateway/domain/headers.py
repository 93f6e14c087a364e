"""What a caller learns of an answer beside its text: response headers, and the facts of `usage.quartet`."""

import secrets
from collections.abc import Iterable
from typing import Any

from quartet.common.v1 import decision_pb2, generation_pb2
from services.kit import names, telemetry
from services.kit.call import Call

ROUTE = "x-quartet-route"
RULE = "x-quartet-rule"
MODEL = "x-quartet-model"
CACHE = "x-quartet-cache"
REQUEST_ID = "x-request-id"
_MAX_REQUEST_ID_CHARS = 128


def name_call(call: Call) -> None:
    """Sets the trace id and the request id in the answer; the latter is the caller's own, if it sent one."""
    trace_id = telemetry.current_trace_id()
    own = call.metadata.get(REQUEST_ID, "")[:_MAX_REQUEST_ID_CHARS]
    call.response_headers[REQUEST_ID] = own or trace_id or secrets.token_hex(16)
    if trace_id:
        call.response_headers[names.TRACE_ID_HEADER] = trace_id


def request_id_of(call: Call) -> str:
    """The id that `name_call` gave; empty before."""
    return call.response_headers.get(REQUEST_ID, "")


def tell_decision(call: Call, decision: decision_pb2.Decision) -> None:
    """Sets what the decision says; what it leaves empty is left out."""
    _set(call, ROUTE, decision.route)
    _set(call, RULE, decision.rule)
    _set(call, MODEL, decision.model)
    if decision.cache:
        _set(call, CACHE, cache_name(decision.cache))


def tell_adapted(call: Call, adapted: Iterable[str]) -> None:
    """Sets what was dropped or changed to fit the model."""
    _set(call, names.ADAPTED_HEADER, ", ".join(adapted))


def tell_peer_headers(call: Call, peer: Call) -> None:
    """Passes on what only the router can know before a stream's end."""
    _set(call, names.ADAPTED_HEADER, peer.response_headers.get(names.ADAPTED_HEADER, ""))


def facts(
    decision: decision_pb2.Decision, completion: generation_pb2.Completion | None = None
) -> dict[str, Any]:
    """The members of `usage.quartet`."""
    found: dict[str, Any] = {"cost_micro_usd": completion.usage.cost_micro_usd if completion else 0}
    if completion:
        found["model_calls"] = completion.usage.model_calls
    found["handler"] = handler_name(decision.handler)
    for name in ("route", "rule"):
        if value := getattr(decision, name):
            found[name] = value
    if model := (completion and completion.model) or decision.model:
        found["model"] = model
    if decision.cache:
        found["cache"] = cache_name(decision.cache)
    if completion and completion.stop_detail:
        found["stop_detail"] = completion.stop_detail
    if completion and completion.adapted:
        found["adapted"] = list(completion.adapted)
    if decision.warnings:
        found["warnings"] = list(decision.warnings)
    if trace_id := telemetry.current_trace_id():
        found["trace_id"] = trace_id
    return found


def handler_name(handler: decision_pb2.Handler) -> str:
    """The handler as a name that could stand in a `model` field."""
    match handler.WhichOneof("kind"):
        case "pipeline":
            return f"pipeline/{handler.pipeline.name}"
        case "agent":
            return "agent"
    return "model"


def cache_name(outcome: decision_pb2.CacheOutcome.ValueType) -> str:
    """`miss`, `exact_hit` and so on."""
    return decision_pb2.CacheOutcome.Name(outcome).removeprefix("CACHE_OUTCOME_").lower()


def _set(call: Call, header: str, value: str) -> None:
    if value:
        call.response_headers[header] = value
