"""What is written down of every call to a model."""

from dataclasses import dataclass
from datetime import datetime

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
    """

    route: str = ""
    run_id: str = ""
    cache: str = ""
    input_tokens: int = 0


UNKNOWN_PURPOSE = Purpose()


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A call to a model as the ledger keeps it; its fields are the table's columns.

    Attributes:
        call_id: Unique among all routers and for ever.
        time: When the call began, UTC.
        operation: `chat` or `embeddings`.
        trace_id: 32 hex digits; empty when there is no trace.
        status: `OK`, or the reason of the failure; `CANCELLED` when the caller went away.
        estimated: True for a call that broke off before the provider told its counts.
        input_tokens: Cached ones included.
        output_tokens: Reasoning included.
        baseline_micro_usd: What the tokens would have cost with the baseline model; 0 where no route chose
            the model, or no answer came of it.
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
    estimated: bool
    duration_us: int
    input_tokens: int
    output_tokens: int
    cached_input_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    cost_micro_usd: int
    baseline_micro_usd: int
