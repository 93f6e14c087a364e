"""A span, metrics and a price for every call to a model, whatever its provider."""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from opentelemetry.metrics import Meter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer

from quartet.common.v1.generation_pb2 import Completion, Delta, FinishReason, Usage
from services.kit import names
from services.kit.call import Call
from services.kit.errors import QuartetError
from services.router.domain.adaptation import ModelRequest
from services.router.domain.catalogue import Model
from services.router.domain.prices import cost_of
from services.router.ports import EmbeddingProvider, ModelProvider, ProviderEvent, Vectors

_FINISH_PREFIX = "FINISH_REASON_"


class Instruments:
    """The tracer and the GenAI metrics of this process."""

    def __init__(self, tracer: Tracer, meter: Meter) -> None:
        self.tracer = tracer
        self._duration = meter.create_histogram(names.GEN_AI_DURATION, unit="s")
        self._tokens = meter.create_histogram(names.GEN_AI_TOKEN_USAGE, unit="{token}")

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
        self, instruments: Instruments, operation: str, model: Model, attributes: dict[str, Any]
    ) -> None:
        self._instruments = instruments
        self._operation = operation
        self._model = model
        self.usage = Usage()
        self._begun = time.perf_counter()
        self._seen_first = False
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
            fault = "CANCELLED"
        if fault:
            self.span.set_attribute(names.ERROR_TYPE, fault)
        self._instruments.record(
            self._operation, self._model, time.perf_counter() - self._begun, self.usage, fault
        )
        self.span.end()

    def note_first_chunk(self) -> None:
        """Sets the time to the first chunk; later calls do nothing."""
        if not self._seen_first:
            self._seen_first = True
            self.span.set_attribute(names.GEN_AI_TIME_TO_FIRST_CHUNK, time.perf_counter() - self._begun)

    def complete(self, usage: Usage) -> None:
        """Prices the usage and writes it on the span."""
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


class MeteredProvider:
    """A provider whose calls are measured and priced."""

    def __init__(self, provider: ModelProvider, instruments: Instruments) -> None:
        self._provider = provider
        self._instruments = instruments

    async def generate(self, request: ModelRequest, call: Call) -> Completion:
        """As the provider's own, with the cost in the completion's usage."""
        with self._measure(request) as measurement:
            completion = await self._provider.generate(request, call)
            measurement.finish(completion)
            return completion

    async def stream(self, request: ModelRequest, call: Call) -> AsyncGenerator[ProviderEvent]:
        """As the provider's own, with the cost in the last event."""
        with self._measure(request) as measurement:
            async with aclosing(self._provider.stream(request, call)) as events:
                async for event in events:
                    if isinstance(event, Delta):
                        measurement.note_first_chunk()
                    elif isinstance(event, Completion):
                        measurement.finish(event)
                    yield event

    def _measure(self, request: ModelRequest) -> _Measurement:
        attributes = {names.GEN_AI_REQUEST_MAX_TOKENS: request.spec.max_output_tokens}
        return _Measurement(self._instruments, names.CHAT, request.model, attributes)


class MeteredEmbedder:
    """An embedding provider whose calls are measured."""

    def __init__(self, provider: EmbeddingProvider, instruments: Instruments) -> None:
        self._provider = provider
        self._instruments = instruments

    async def embed(self, model: Model, texts: Sequence[str], dimension: int, call: Call) -> Vectors:
        """As the provider's own."""
        with _Measurement(self._instruments, names.EMBEDDINGS, model, {}) as measurement:
            vectors = await self._provider.embed(model, texts, dimension, call)
            measurement.complete(Usage(input_tokens=vectors.input_tokens))
            return vectors
