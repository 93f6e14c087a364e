"""What a caller learns of an answer beside its text: response headers, and the facts of `usage.quartet`."""

import secrets
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from quartet.common.v1 import decision_pb2, generation_pb2
from quartet.router.v1 import router_pb2
from services.kit import names, telemetry
from services.kit.call import Call

ROUTE = "x-quartet-route"
RULE = "x-quartet-rule"
MODEL = "x-quartet-model"
CACHE = "x-quartet-cache"
REPLAYED = "x-quartet-replayed"
RESUME_KEY = "x-quartet-resume-key"
REQUEST_ID = "x-request-id"
ANTHROPIC_VERSION = "anthropic-version"
ANTHROPIC_REQUEST_ID = "request-id"
"""Where Anthropic's clients, which send their version, look for it."""
_OURS = "x-quartet-"
_MAX_REQUEST_ID_CHARS = 128


class Head(NamedTuple):
    """What tells an answer from every other one; replayed, it is still that of the call that made it.

    Attributes:
        request_id: Its body's id is made of it.
        trace_id: The trace that shows its way, 32 hex digits; empty when nothing is traced.
        created_s: When it was made, in Unix seconds.
        headers: The response headers of ours.
    """

    request_id: str = ""
    trace_id: str = ""
    created_s: int = 0
    headers: Mapping[str, str] = {}


NO_HEAD = Head()
"""Of an answer that is still being made."""


def name_call(call: Call) -> None:
    """Sets the trace id and the request id in the answer; the latter is the caller's own, if it sent one."""
    trace_id = telemetry.current_trace_id()
    own = call.metadata.get(REQUEST_ID, "")[:_MAX_REQUEST_ID_CHARS]
    request_id = call.response_headers[REQUEST_ID] = own or trace_id or secrets.token_hex(16)
    if ANTHROPIC_VERSION in call.metadata:
        call.response_headers[ANTHROPIC_REQUEST_ID] = request_id
    if trace_id:
        call.response_headers[names.TRACE_ID_HEADER] = trace_id


def request_id_of(call: Call) -> str:
    """The id that `name_call` gave; empty before."""
    return call.response_headers.get(REQUEST_ID, "")


def head_of(call: Call) -> Head:
    """The head of the answer that is made in this call, once its headers are told."""
    ours = {name: value for name, value in call.response_headers.items() if name.startswith(_OURS)}
    return Head(request_id_of(call), telemetry.current_trace_id(), int(time.time()), ours)


def tell_decision(call: Call, decision: decision_pb2.Decision) -> None:
    """Sets what the decision says; what it leaves empty is left out."""
    _set(call, ROUTE, decision.route)
    _set(call, RULE, decision.rule)
    _set(call, MODEL, decision.model)
    if decision.cache:
        _set(call, CACHE, cache_name(decision.cache))


def tell_vectors(call: Call, response: router_pb2.EmbedResponse) -> None:
    """Sets who embedded, and whether what was kept served."""
    _set(call, MODEL, response.model)
    if response.cache:
        _set(call, CACHE, cache_name(response.cache))


def tell_adapted(call: Call, adapted: Iterable[str]) -> None:
    """Sets what was dropped or changed to fit the model."""
    _set(call, names.ADAPTED_HEADER, ", ".join(adapted))


def tell_peer_headers(call: Call, peer: Call) -> None:
    """Passes on what only the router can know before a stream's end."""
    _set(call, names.ADAPTED_HEADER, peer.response_headers.get(names.ADAPTED_HEADER, ""))


def facts(
    decision: decision_pb2.Decision, completion: generation_pb2.Completion | None, head: Head
) -> dict[str, Any]:
    """The members of `usage.quartet`."""
    found: dict[str, Any] = {"cost_micro_usd": completion.usage.cost_micro_usd if completion else 0}
    if completion:
        found["model_calls"] = completion.usage.model_calls
    found["handler"] = handler_name(decision.handler)
    for name in ("route", "rule", "session"):
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
    if head.trace_id:
        found["trace_id"] = head.trace_id
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
