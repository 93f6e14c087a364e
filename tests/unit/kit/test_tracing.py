import pytest
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from opentelemetry.trace.span import TraceState

from services.kit.tracing import extract, inject

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_a_trace_context_survives_the_wire() -> None:
    context = SpanContext(
        int(TRACE, 16),
        int(SPAN, 16),
        is_remote=False,
        trace_flags=TraceFlags(1),
        trace_state=TraceState([("a", "b")]),
    )
    metadata = dict(inject(NonRecordingSpan(context)))
    assert metadata == {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "a=b"}
    restored = extract(metadata)
    assert restored is not None
    assert (restored.trace_id, restored.span_id, restored.trace_flags) == (
        context.trace_id,
        context.span_id,
        context.trace_flags,
    )
    assert (restored.is_remote, restored.trace_state) == (True, context.trace_state)


@pytest.mark.parametrize(
    "malformed",
    [
        "",
        "00",
        f"00-{TRACE}-{SPAN}",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-01\n",
    ],
)
def test_a_malformed_context_is_no_context(malformed: str) -> None:
    assert extract({"traceparent": malformed}) is None


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    restored = extract({"traceparent": f"01-{TRACE}-{SPAN}-01-more"})
    assert restored is not None
    assert restored.trace_flags.sampled
