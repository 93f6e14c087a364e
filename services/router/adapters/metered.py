"""A span, metrics, a price and a ledger entry for every call to a model, whatever its provider."""

import asyncio
import itertools
import logging
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

from opentelemetry.metrics import Meter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, format_trace_id

from quartet.common.v1.decision_pb2 import CACHE_OUTCOME_EXACT_HIT
from quartet.common.v1.generation_pb2 import Completion, Delta, FinishReason, Usage
from services.kit import names, telemetry
from services.kit.call import Call
from services.kit.errors import QuartetError
from services.router.domain.adaptation import ModelRequest
from services.router.domain.catalogue import Model
from services.router.domain.features import CHARS_PER_TOKEN
from services.router.domain.ledger import CANCELLED, OK, UNKNOWN_PURPOSE, Entry, Purpose, name_outcome
from services.router.domain.plan import Plan
from services.router.domain.prices import Prices, cost_of
from services.router.ports import (
    Accepted,
    Batch,
    EmbeddingProvider,
    Ledger,
    ModelProvider,
    ProviderEvent,
    Vectors,
)

log = logging.getLogger(__name__)

_FINISH_PREFIX = "FINISH_REASON_"


class Instruments:
    """The tracer, the GenAI metrics and the ledger of this process; without a ledger none is kept.

    `baseline` are the prices of the model that routes' calls are compared with.
    """

    def __init__(
        self, tracer: Tracer, meter: Meter, ledger: Ledger | None = None, baseline: Prices | None = None
    ) -> None:
        self.tracer = tracer
        self.ledger = ledger
        self._baseline = baseline
        self._process = secrets.token_hex(8)
        self._numbers = itertools.count(1)
        self._duration = meter.create_histogram(names.GEN_AI_DURATION, unit="s")
        self._tokens = meter.create_histogram(names.GEN_AI_TOKEN_USAGE, unit="{token}")
        self._changes = meter.create_counter(names.DEPLOYMENT_CHANGES)

    def compare(self, purpose: Purpose, usage: Usage, status: str) -> int:
        """What an answer of a route would have cost with the baseline's prices for its tier, in micro-USD."""
        if self._baseline is None or not purpose.route or purpose.overhead or status != OK:
            return 0
        booked = 0 if purpose.superseded is None else cost_of(purpose.superseded, self._baseline)
        return cost_of(usage, self._baseline) - booked

    def note_hit(self, plan: Plan, answered: Completion, run_id: str, call: Call) -> None:
        """Writes down an answer for which no model was called: no tokens, no cost, and what it saved."""
        model = next((model for model in plan.models if model.id == answered.model), plan.models[0])
        saved = cost_of(answered.usage, self._baseline) if self._baseline and plan.route.name else 0
        purpose = Purpose(route=plan.route.name, run_id=run_id, cache=name_outcome(plan.decision.cache))
        self._record_hit(names.CHAT, model, purpose, saved, call)

    def note_vectors(self, model: Model, tokens: int, call: Call) -> None:
        """Writes down vectors for which no model was called, and what they would have cost."""
        saved = cost_of(Usage(input_tokens=tokens), model.prices)
        purpose = Purpose(cache=name_outcome(CACHE_OUTCOME_EXACT_HIT))
        self._record_hit(names.EMBEDDINGS, model, purpose, saved, call)

    def _record_hit(
        self, operation: str, model: Model, purpose: Purpose, saved_micro_usd: int, call: Call
    ) -> None:
        if self.ledger is None:
            return
        self.ledger.record(
            Entry(
                call_id=self.name_call(),
                time=datetime.now(UTC),
                tenant=call.tenant,
                key_id=call.key_id,
                operation=operation,
                route=purpose.route,
                model=model.id,
                provider=model.provider,
                run_id=purpose.run_id,
                trace_id=telemetry.current_trace_id(),
                cache=purpose.cache,
                status=OK,
                baseline_micro_usd=saved_micro_usd,
            )
        )

    def note_change(self, model: Model, state: str) -> None:
        """Counts and logs that a deployment cools down, is tried again, or is well."""
        attributes = {names.GEN_AI_PROVIDER: model.provider, names.GEN_AI_REQUEST_MODEL: model.id}
        self._changes.add(1, {**attributes, names.DEPLOYMENT_STATE: state})
        log.warning(
            "deployment is %s", state, extra={"model": model.id, "provider": model.provider, "state": state}
        )

    def name_call(self) -> str:
        """A new call id."""
        return f"{self._process}-{next(self._numbers)}"

    def record(self, operation: str, model: Model, duration_s: float, usage: Usage, error: str) -> None:
        """Records one call; `error` is empty for one that went well."""
        attributes: dict[str, str] = {
            names.GEN_AI_OPERATION: operation,
            names.GEN_AI_PROVIDER: model.provider,
            names.GEN_AI_REQUEST_MODEL: model.id,
        }
        if error:
            self._duration.record(duration_s, {**attributes, names.ERROR_TYPE: error})
            return
        self._duration.record(duration_s, attributes)
        self._tokens.record(usage.input_tokens, {**attributes, names.GEN_AI_TOKEN_TYPE: "input"})
        self._tokens.record(usage.output_tokens, {**attributes, names.GEN_AI_TOKEN_TYPE: "output"})


class _Measurement:
    """One call under way; entered it begins a span, left it ends it."""

    def __init__(
        self,
        instruments: Instruments,
        operation: str,
        model: Model,
        call: Call,
        *,
        purpose: Purpose = UNKNOWN_PURPOSE,
        attributes: dict[str, Any],
    ) -> None:
        self._instruments = instruments
        self._operation = operation
        self._model = model
        self._call = call
        # An answer that is shared may go on for another key than this call was begun for, and drawn from.
        self._key_id = call.key_id
        self._purpose = purpose
        self.usage = Usage()
        self._time = datetime.now(UTC)
        self._begun = time.perf_counter()
        self._accepted = self._complete = False
        self._written_chars = 0
        self.span: Span = instruments.tracer.start_span(
            f"{operation} {model.id}",
            kind=SpanKind.CLIENT,
            attributes={
                names.GEN_AI_OPERATION: operation,
                names.GEN_AI_PROVIDER: model.provider,
                names.GEN_AI_REQUEST_MODEL: model.id,
                **attributes,
            },
        )

    def __enter__(self) -> "_Measurement":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        fault = ""
        if isinstance(error, QuartetError):
            fault = error.reason
            self.span.set_status(Status(StatusCode.ERROR, error.status))
        elif isinstance(error, Exception):
            fault = type(error).__name__
            self.span.set_status(Status(StatusCode.ERROR))
        elif error is not None:
            fault = CANCELLED
        if fault:
            self.span.set_attribute(names.ERROR_TYPE, fault)
        estimated = self._accepted and not self._complete
        if estimated:
            # The provider charges for what it did, and tells how much only at the end.
            output_tokens = -(-self._written_chars // CHARS_PER_TOKEN)
            self.complete(Usage(input_tokens=self._purpose.input_tokens, output_tokens=output_tokens))
        if self._purpose.draw is not None:
            self._purpose.draw.settle(self.usage)
        duration_s = time.perf_counter() - self._begun
        self._instruments.record(self._operation, self._model, duration_s, self.usage, fault)
        if self._instruments.ledger is not None:
            self._instruments.ledger.record(self._entry(fault or OK, estimated, duration_s))
        self.span.end()

    def note_acceptance(self) -> None:
        """From here on the provider charges."""
        self._accepted = True

    def note_delta(self, delta: Delta) -> None:
        """Counts what was written; the first one sets the time to the first chunk."""
        if not self._written_chars:
            self.span.set_attribute(names.GEN_AI_TIME_TO_FIRST_CHUNK, time.perf_counter() - self._begun)
        self._written_chars += max(1, _count_chars(delta))

    def complete(self, usage: Usage) -> None:
        """Prices the usage and writes it on the span."""
        self._complete = True
        usage.cost_micro_usd = cost_of(usage, self._model.prices)
        usage.model_calls = 1
        self.usage = usage
        if self.span.is_recording():
            self.span.set_attributes(
                {
                    names.GEN_AI_RESPONSE_MODEL: self._model.id,
                    names.GEN_AI_INPUT_TOKENS: usage.input_tokens,
                    names.GEN_AI_OUTPUT_TOKENS: usage.output_tokens,
                    names.GEN_AI_CACHE_READ_TOKENS: usage.cached_input_tokens,
                    names.COST_MICRO_USD: usage.cost_micro_usd,
                }
            )

    def finish(self, completion: Completion) -> None:
        """As `complete`, with the reason why the answer ended."""
        self.complete(completion.usage)
        reason = FinishReason.Name(completion.finish_reason).removeprefix(_FINISH_PREFIX).lower()
        self.span.set_attribute(names.GEN_AI_FINISH_REASONS, [reason])

    def _entry(self, status: str, estimated: bool, duration_s: float) -> Entry:
        call, purpose, usage = self._call, self._purpose, self.usage
        trace_id = self.span.get_span_context().trace_id
        return Entry(
            call_id=self._instruments.name_call(),
            time=self._time,
            tenant=call.tenant,
            key_id=self._key_id,
            operation=purpose.overhead or self._operation,
            route=purpose.route,
            model=self._model.id,
            provider=self._model.provider,
            run_id=purpose.run_id,
            trace_id=format_trace_id(trace_id) if trace_id else "",
            cache=purpose.cache,
            status=status,
            estimated=estimated,
            duration_us=round(duration_s * 1e6),
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cached_input_tokens=usage.cached_input_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            service_tier=usage.service_tier,
            cost_micro_usd=usage.cost_micro_usd,
            baseline_micro_usd=self._instruments.compare(purpose, usage, status),
        )


def _count_chars(delta: Delta) -> int:
    thinking, called = delta.thinking.text, delta.tool_call
    written = len(called.arguments_json) + len(called.input_text)
    return len(delta.text) + len(thinking) + written + len(delta.refusal)


class MeteredProvider:
    """A provider whose calls are measured and priced."""

    def __init__(self, provider: ModelProvider, instruments: Instruments) -> None:
        self._provider = provider
        self._instruments = instruments

    async def generate(self, request: ModelRequest, call: Call) -> Completion:
        """As the provider's own, with the cost in the completion's usage."""
        with self._measure(request, call) as measurement:
            try:
                completion = await self._provider.generate(request, call)
            except asyncio.CancelledError:
                # Nobody knows how far the provider came; that it had the prompt is likely.
                measurement.note_acceptance()
                raise
            measurement.finish(completion)
            return completion

    async def stream(self, request: ModelRequest, call: Call) -> AsyncGenerator[ProviderEvent]:
        """As the provider's own, with the cost in the last event."""
        with self._measure(request, call) as measurement:
            async with aclosing(self._provider.stream(request, call)) as events:
                try:
                    async for event in events:
                        if isinstance(event, Delta):
                            measurement.note_delta(event)
                        elif isinstance(event, Accepted):
                            measurement.note_acceptance()
                        elif isinstance(event, Completion):
                            measurement.finish(event)
                        yield event
                except asyncio.CancelledError:
                    measurement.note_acceptance()
                    raise

    def _measure(self, request: ModelRequest, call: Call) -> _Measurement:
        return _Measurement(
            self._instruments,
            names.CHAT,
            request.model,
            call,
            purpose=request.purpose,
            attributes={names.GEN_AI_REQUEST_MAX_TOKENS: request.spec.max_output_tokens},
        )


class MeteredEmbedder:
    """An embedding provider whose calls are measured and priced."""

    def __init__(self, provider: EmbeddingProvider, instruments: Instruments) -> None:
        self._provider = provider
        self._instruments = instruments

    async def embed(self, batch: Batch, call: Call) -> Vectors:
        """As the provider's own."""
        with _Measurement(
            self._instruments, names.EMBEDDINGS, batch.model, call, purpose=batch.purpose, attributes={}
        ) as measurement:
            try:
                vectors = await self._provider.embed(batch, call)
            except asyncio.CancelledError:
                measurement.note_acceptance()
                raise
            measurement.complete(Usage(input_tokens=vectors.input_tokens))
            return vectors
