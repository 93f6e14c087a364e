"""Traces and metrics of a process: set up once, sent by OTLP, flushed at the end."""

import asyncio

from opentelemetry import trace
from opentelemetry.metrics import CallbackOptions, Histogram, Meter, NoOpMeter, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.trace import NoOpTracer, Tracer

from services.kit import names
from services.kit.settings import KitSettings

EXPORT_TIMEOUT_S = 5
SPAN_DELAY_MS = 1000
MAX_WAITING_SPANS = 8192
"""What comes on top is dropped: telemetry never holds calls back."""
SCOPE = "quartet"
DURATION_BOUNDARIES_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 600)
"""Those that the semantic conventions advise for RPCs, continued to our longest deadline."""


class Telemetry:
    """The providers of one process; without an endpoint ids are made and nothing is recorded or sent."""

    def __init__(
        self,
        service_name: str,
        *,
        endpoint: str = "",
        trace_ratio: float = 1.0,
        metric_interval_ms: float = 10_000,
    ) -> None:
        resource = Resource.create({SERVICE_NAME: service_name})
        sampler: Sampler = ParentBased(TraceIdRatioBased(trace_ratio)) if endpoint else ALWAYS_OFF
        self._traces = TracerProvider(sampler=sampler, resource=resource, shutdown_on_exit=False)
        readers = []
        if endpoint:
            # Imported late: a fifth of a second that those who send nothing, such as the CLI, are spared.
            from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

            insecure = not endpoint.startswith("https://")
            spans = OTLPSpanExporter(endpoint=endpoint, insecure=insecure, timeout=EXPORT_TIMEOUT_S)
            self._traces.add_span_processor(
                BatchSpanProcessor(
                    spans, max_queue_size=MAX_WAITING_SPANS, schedule_delay_millis=SPAN_DELAY_MS
                )
            )
            metrics = OTLPMetricExporter(endpoint=endpoint, insecure=insecure, timeout=EXPORT_TIMEOUT_S)
            readers = [PeriodicExportingMetricReader(metrics, export_interval_millis=metric_interval_ms)]
        self._metrics = MeterProvider(metric_readers=readers, resource=resource, shutdown_on_exit=False)
        self.tracer = self._traces.get_tracer(SCOPE)
        self.meter = self._metrics.get_meter(SCOPE)
        self.server_durations = self._histogram(names.RPC_SERVER_DURATION) if endpoint else None
        self.client_durations = self._histogram(names.RPC_CLIENT_DURATION) if endpoint else None

    def _histogram(self, name: str) -> Histogram:
        return self.meter.create_histogram(
            name, unit="s", explicit_bucket_boundaries_advisory=DURATION_BOUNDARIES_S
        )

    def observe_tasks(self, loop: asyncio.AbstractEventLoop) -> None:
        """Tells how many tasks the loop has: a number that grows and does not shrink is a leak."""

        def count(_: CallbackOptions) -> list[Observation]:
            return [Observation(len(asyncio.all_tasks(loop)))]

        self.meter.create_observable_gauge(names.TASKS, [count], unit="{task}")

    def flush(self) -> None:
        """Sends the spans that wait; blocks for about EXPORT_TIMEOUT_S at most."""
        self._traces.force_flush(EXPORT_TIMEOUT_S * 1000)

    def shutdown(self) -> None:
        """Sends what waits and ends the threads; blocks for a few EXPORT_TIMEOUT_S at most."""
        self._traces.shutdown()
        self._metrics.shutdown(timeout_millis=EXPORT_TIMEOUT_S * 1000)


_current: Telemetry | None = None


def configure(service_name: str, settings: KitSettings) -> Telemetry:
    """Makes the telemetry of this process, whose spans bear the service's name; once, before serving."""
    global _current  # one tracer per process is what OpenTelemetry's own API has, too
    _current = Telemetry(
        service_name,
        endpoint=settings.otlp_endpoint,
        trace_ratio=settings.trace_ratio,
        metric_interval_ms=settings.metric_interval_ms,
    )
    return _current


def reset() -> None:
    """Forgets what `configure` made, which the caller has shut down."""
    global _current
    _current = None


def tracer() -> Tracer:
    """The tracer of this process; before `configure` one that does nothing."""
    return _current.tracer if _current else NoOpTracer()


def meter() -> Meter:
    """The meter of this process; before `configure` one that does nothing."""
    return _current.meter if _current else NoOpMeter(SCOPE)


def server_durations() -> Histogram | None:
    """Where the durations of calls served are counted; None when nobody would receive them."""
    return _current.server_durations if _current else None


def client_durations() -> Histogram | None:
    """As `server_durations`, for calls made."""
    return _current.client_durations if _current else None


def current_trace_id() -> str:
    """The trace that the running code belongs to, as 32 hex digits; empty outside of one."""
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else ""
