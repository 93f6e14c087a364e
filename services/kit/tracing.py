"""The spans of rpcs and the W3C context that ties them together, by hand: each call pays for them."""

import re
import time
from collections.abc import Mapping
from types import TracebackType

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.metrics import Histogram
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.span import TraceState

from services.kit import names, telemetry
from services.kit.binding import Rpc
from services.kit.errors import QuartetError

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_FAULTS = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
"""The statuses that mark a span as failed; the caller's own faults leave it unset."""


class RpcSpan:
    """One call as telemetry sees it: a span where the trace is recorded, and its duration in any case.

    Left, it ends with the status that the caller sees. No frame that an error passes holds the error itself:
    the two would wait for the collector together.
    """

    __slots__ = ("_durations", "_rpc", "_span", "_started_s")

    def __init__(self, rpc: Rpc, span: Span, durations: Histogram | None) -> None:
        self._rpc = rpc
        self._durations = durations
        self._started_s = time.perf_counter()
        self._span = span

    def __enter__(self) -> Span:
        return self._span

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        recording = self._span.is_recording()
        if self._durations is None and not recording:
            return
        status = "OK" if error is None else error.status if isinstance(error, QuartetError) else "CANCELLED"
        if self._durations is not None:
            attributes = {**_attributes(self._rpc), names.RPC_STATUS: status}
            self._durations.record(time.perf_counter() - self._started_s, attributes)
        if recording:
            self._span.set_attribute(names.RPC_STATUS, status)
            if error is not None:
                self._span.set_attribute(names.ERROR_TYPE, status)
                if status in _FAULTS:
                    self._span.set_status(Status(StatusCode.ERROR, status))
            self._span.end()


def start_server_span(rpc: Rpc, metadata: Mapping[str, str]) -> RpcSpan:
    """Begins the span of a call that came in, a child of the caller's, and makes it current in this task."""
    parent = extract(metadata)
    if parent is None:
        span = _start(rpc, SpanKind.SERVER, Context())
    elif parent.trace_flags.sampled:
        span = _start(rpc, SpanKind.SERVER, trace.set_span_in_context(NonRecordingSpan(parent)))
    else:
        span = NonRecordingSpan(parent)
    contexts.attach(trace.set_span_in_context(span))
    return RpcSpan(rpc, span, telemetry.server_durations())


def start_client_span(rpc: Rpc, address: str) -> RpcSpan:
    """Begins the span of a call that goes out, as a child of the current one; never current itself."""
    span = trace.get_current_span()
    if not _is_unsampled(span):
        span = _start(rpc, SpanKind.CLIENT, None)
        if span.is_recording():
            span.set_attribute(names.SERVER_ADDRESS, address)
    return RpcSpan(rpc, span, telemetry.client_durations())


def start_local_span(rpc: Rpc) -> RpcSpan:
    """Begins the span of a call within the process and makes it current in this task."""
    current = trace.get_current_span()
    if _is_unsampled(current):
        return RpcSpan(rpc, current, None)
    span = _start(rpc, SpanKind.INTERNAL, None)
    contexts.attach(trace.set_span_in_context(span))
    return RpcSpan(rpc, span, None)


def inject(span: Span) -> tuple[tuple[str, str], ...]:
    """The metadata that makes a peer's spans children of this one."""
    context = span.get_span_context()
    if not context.is_valid:
        return ()
    parent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & 1:02x}"
    if context.trace_state:
        return (names.TRACEPARENT, parent), (names.TRACESTATE, context.trace_state.to_header())
    return ((names.TRACEPARENT, parent),)


def extract(metadata: Mapping[str, str]) -> SpanContext | None:
    """The caller's span, or None when there is none or it is malformed."""
    parts = _TRACEPARENT.fullmatch(metadata.get(names.TRACEPARENT, ""))
    if parts is None:
        return None
    state = metadata.get(names.TRACESTATE)
    context = SpanContext(
        trace_id=int(parts[1], 16),
        span_id=int(parts[2], 16),
        is_remote=True,
        trace_flags=TraceFlags(int(parts[3], 16)),
        trace_state=TraceState.from_header([state]) if state else None,
    )
    return context if context.is_valid else None


def _start(rpc: Rpc, kind: SpanKind, context: Context | None) -> Span:
    return telemetry.tracer().start_span(rpc.name, context, kind, _attributes(rpc))


def _attributes(rpc: Rpc) -> dict[str, str]:
    return {names.RPC_SYSTEM: "grpc", names.RPC_METHOD: rpc.name}


def _is_unsampled(span: Span) -> bool:
    context = span.get_span_context()
    return context.is_valid and not context.trace_flags.sampled
