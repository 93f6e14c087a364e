"""Building blocks of tests: a service on a free port, its two kinds of client, a receiver of spans."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from services.kit.binding import Binding
from services.kit.client import local, remote
from services.kit.serving import Server
from services.kit.settings import KitSettings

KINDS = ("local", "remote")
"""For `pytest.mark.parametrize`: a caller must not be able to tell them apart."""


@asynccontextmanager
async def serve(*bindings: Binding, settings: KitSettings | None = None) -> AsyncIterator[Server]:
    """A server of the bindings on a free port, with a short drain."""
    async with Server(bindings, settings or KitSettings(drain_timeout_s=0.2)) as server:
        yield server


@asynccontextmanager
async def client_of(kind: str, service_name: str, service: object) -> AsyncIterator[Any]:
    """A client of the object: `local`, or `remote` through a real server."""
    if kind == "local":
        yield local(service_name, service)
        return
    async with serve(Binding(service_name, service)) as server:
        client = remote(service_name, server.address)
        try:
            yield client
        finally:
            await client.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedSpan:
    """A span as it came in; ids in hex, `parent_id` empty at a root, times in nanoseconds."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]


@dataclass(slots=True)
class OtlpReceiver:
    """An OTLP gRPC receiver that keeps the spans it is sent; made by `receive_otlp`."""

    endpoint: str = ""
    spans: list[ReceivedSpan] = field(default_factory=list)
    metric_names: set[str] = field(default_factory=set)
    gauges: dict[tuple[str, str], float] = field(default_factory=dict)
    """The newest value by service and metric; of several points of one metric their sum."""
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def trace(self, trace_id: str) -> list[ReceivedSpan]:
        """The spans of one trace so far, in the order of their starts."""
        return sorted(
            (span for span in self.spans if span.trace_id == trace_id), key=lambda span: span.start_ns
        )

    async def wait_for(self, count: int, *, trace_id: str = "", timeout_s: float = 10) -> list[ReceivedSpan]:
        """At least `count` spans of the trace (or of any); raises TimeoutError when they do not come."""
        async with asyncio.timeout(timeout_s), self._changed:
            while len(found := self.trace(trace_id) if trace_id else self.spans) < count:
                await self._changed.wait()
            return found

    async def _take_traces(self, request: Any, _: Any) -> Any:
        async with self._changed:
            for resource in request.resource_spans:
                service = _attributes(resource.resource.attributes).get("service.name", "")
                for scope in resource.scope_spans:
                    self.spans.extend(_received(service, span) for span in scope.spans)
            self._changed.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    async def _take_metrics(self, request: Any, _: Any) -> Any:
        for resource in request.resource_metrics:
            service = _attributes(resource.resource.attributes).get("service.name", "")
            for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
                self.metric_names.add(metric.name)
                if metric.WhichOneof("data") == "gauge":
                    points = metric.gauge.data_points
                    total = sum(point.as_int or point.as_double for point in points)
                    self.gauges[service, metric.name] = total
        return metrics_service_pb2.ExportMetricsServiceResponse()


@asynccontextmanager
async def receive_otlp() -> AsyncIterator[OtlpReceiver]:
    """A receiver on a free port; its `endpoint` goes into OTEL_EXPORTER_OTLP_ENDPOINT."""
    receiver = OtlpReceiver()
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    traces = grpc.unary_unary_rpc_method_handler(
        receiver._take_traces,
        request_deserializer=trace_service_pb2.ExportTraceServiceRequest.FromString,
        response_serializer=trace_service_pb2.ExportTraceServiceResponse.SerializeToString,
    )
    metrics = grpc.unary_unary_rpc_method_handler(
        receiver._take_metrics,
        request_deserializer=metrics_service_pb2.ExportMetricsServiceRequest.FromString,
        response_serializer=metrics_service_pb2.ExportMetricsServiceResponse.SerializeToString,
    )
    package = "opentelemetry.proto.collector"
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(f"{package}.trace.v1.TraceService", {"Export": traces}),
            grpc.method_handlers_generic_handler(f"{package}.metrics.v1.MetricsService", {"Export": metrics}),
        )
    )
    receiver.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield receiver
    finally:
        await server.stop(0)


def _received(service: str, span: Any) -> ReceivedSpan:
    return ReceivedSpan(
        service=service,
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        kind=span.kind,
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        attributes=_attributes(span.attributes),
    )


def _attributes(pairs: Sequence[Any]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, kind) if kind else None
