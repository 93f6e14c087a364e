"""What is written down of every call to a model."""

from dataclasses import dataclass
from datetime import datetime

from quartet.common.v1.decision_pb2 import CacheOutcome
from quartet.common.v1.generation_pb2 import Usage
from services.router.domain.account import Draw

JUDGE = "judge"
CLASSIFIER = "classifier"
"""What a call is for that the router makes for itself."""

OK = "OK"
CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Purpose:
    """What a model is called for.

    Attributes:
        route: Empty where the caller named a model.
        run_id: The run that the call belongs to; empty for live calls.
        cache: What the answer cache said before, such as `miss`; empty when it was not asked.
        input_tokens: As counted or estimated before the call.
        superseded: What the answer used that this one takes the place of; None where there was none.
        overhead: `JUDGE` or `CLASSIFIER` for a question of the router's own; empty for what was asked for.
        draw: What was taken from the request's account for it; None where there is no account.
    """

    route: str = ""
    run_id: str = ""
    cache: str = ""
    input_tokens: int = 0
    superseded: Usage | None = None
    overhead: str = ""
    draw: Draw | None = None


UNKNOWN_PURPOSE = Purpose()

_CACHE_OUTCOMES = {
    number: name.removeprefix("CACHE_OUTCOME_").lower() if number else ""
    for name, number in CacheOutcome.items()
}


def name_outcome(cache: CacheOutcome.ValueType) -> str:
    """What the cache said, such as `miss` or `exact_hit`; empty when nothing is known."""
    return _CACHE_OUTCOMES[cache]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A call to a model as the ledger keeps it; its fields are the table's columns.

    Attributes:
        call_id: Unique among all routers and for ever.
        time: When the call began, UTC.
        operation: `chat`, `embeddings`, or what the router asked for itself: `judge`, `classifier`.
        trace_id: 32 hex digits; empty when there is no trace.
        status: `OK`, or the reason of the failure; `CANCELLED` when the caller went away.
        estimated: True for a call that broke off before the provider told its counts.
        input_tokens: Cached ones included.
        output_tokens: Reasoning included.
        service_tier: As the provider named it; empty where it did not.
        baseline_micro_usd: What the tokens would have cost with the baseline model; 0 where no route chose
            the model, or no answer came of it. Less what is booked for the answer that this one supersedes,
            so that the sum is right.
    """

    call_id: str
    time: datetime
    tenant: str
    key_id: str
    operation: str
    route: str
    model: str
    provider: str
    run_id: str
    trace_id: str
    cache: str
    status: str
    estimated: bool = False
    duration_us: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    service_tier: str = ""
    cost_micro_usd: int = 0
    baseline_micro_usd: int = 0
