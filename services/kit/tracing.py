"""The spans of rpcs and the W3C context that ties them together, by hand: each call pays for them."""

import re
from collections.abc import Mapping

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.span import TraceState

from services.kit import names, telemetry
from services.kit.binding import Rpc
from services.kit.errors import QuartetError

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_FAULTS = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
"""The statuses that mark a span as failed; the caller's own faults leave it unset."""


def start_server_span(rpc: Rpc, metadata: Mapping[str, str]) -> Span:
    """Begins the span of a call that came in, a child of the caller's, and makes it current in this task."""
    parent = extract(metadata)
    if parent is not None and not parent.trace_flags.sampled:
        span: Span = NonRecordingSpan(parent)
    else:
        span = _start(
            rpc, SpanKind.SERVER, trace.set_span_in_context(NonRecordingSpan(parent)) if parent else Context()
        )
    contexts.attach(trace.set_span_in_context(span))
    return span


def start_client_span(rpc: Rpc, address: str) -> Span:
    """Begins the span of a call that goes out, as a child of the current one; never current itself."""
    current = trace.get_current_span()
    if _unsampled(current):
        return current
    span = _start(rpc, SpanKind.CLIENT, None)
    if span.is_recording():
        span.set_attribute(names.SERVER_ADDRESS, address)
    return span


def start_local_span(rpc: Rpc) -> Span:
    """Begins the span of a call within the process and makes it current in this task."""
    current = trace.get_current_span()
    if _unsampled(current):
        return current
    span = _start(rpc, SpanKind.INTERNAL, None)
    contexts.attach(trace.set_span_in_context(span))
    return span


def end_span(span: Span, error: BaseException | None) -> None:
    """Ends an rpc's span with the status that its caller saw."""
    if not span.is_recording():
        return
    if error is None:
        status = "OK"
    else:
        status = error.status if isinstance(error, QuartetError) else "CANCELLED"
        span.set_attribute(names.ERROR_TYPE, status)
        if status in _FAULTS:
            span.set_status(Status(StatusCode.ERROR, status))
    span.set_attribute(names.RPC_STATUS, status)
    span.end()


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
    return telemetry.tracer().start_span(
        rpc.name,
        context,
        kind,
        {names.RPC_SYSTEM: "grpc", names.RPC_METHOD: rpc.name},
    )


def _unsampled(span: Span) -> bool:
    context = span.get_span_context()
    return context.is_valid and not context.trace_flags.sampled
