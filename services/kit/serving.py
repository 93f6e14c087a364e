"""Serves plain classes over gRPC: health, reflection, bounds, and an end without lost calls."""

import asyncio
import gc
import logging
import signal
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Self

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection  # type: ignore[import-untyped]

from services.kit.binding import Binding
from services.kit.handling import handlers
from services.kit.settings import KitSettings

__all__ = ["Binding", "Server", "serve_until_signal"]

log = logging.getLogger(__name__)

KEEPALIVE_S = 30
"""Between pings of an idle peer; a peer that does not answer within KEEPALIVE_TIMEOUT_S is gone."""
KEEPALIVE_TIMEOUT_S = 10
MIN_PING_INTERVAL_S = 10
"""Peers that ping more often are sent away."""
MAX_STREAMS_PER_CONNECTION = 1024
MAX_METADATA_BYTES = 64 * 1024
"""Of a request: a key may name 256 models, which go with its calls. Envoy takes 60 KiB of headers."""
GC_THRESHOLD = 20_000
"""New objects between two collections, Python's own being 700: a call under way holds some hundreds, and
leaves hardly a cycle behind."""


class AddressTakenError(Exception):
    """Another process listens on the address; the message names the setting."""


class Server:
    """One listener for any number of bindings; entered it serves, left it drains.

    Leaving marks its health NOT_SERVING, refuses new calls, lets calls in flight and what the bindings drain
    run for `drain_timeout_s`, and cancels the rest.
    """

    def __init__(self, bindings: Sequence[Binding], settings: KitSettings) -> None:
        self._bindings = bindings
        self._settings = settings
        self._health = health.aio.HealthServicer()
        self._server: grpc.aio.Server | None = None
        self.port = 0

    @property
    def address(self) -> str:
        """Where a client on this machine reaches it, as host:port."""
        return f"{self._settings.host}:{self.port}"

    async def __aenter__(self) -> Self:
        settings = self._settings
        wanted = f"{settings.host}:{settings.port}"
        self._server = server = grpc.aio.server(options=_options(settings))
        served = [binding for binding in self._bindings if binding.served]
        for binding in self._bindings:
            methods = grpc.method_handlers_generic_handler(binding.service_name, handlers(binding, settings))
            server.add_generic_rpc_handlers((methods,))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        advertised = (
            *(binding.service_name for binding in served),
            health.SERVICE_NAME,
            reflection.SERVICE_NAME,
        )
        reflection.enable_server_reflection(advertised, server)
        try:
            self.port = server.add_insecure_port(wanted)
        except RuntimeError:
            prefix = settings.model_config.get("env_prefix", "")
            message = f"cannot listen on {wanted}: set {prefix}PORT to a free port, or stop what holds it"
            raise AddressTakenError(message) from None
        await server.start()
        for binding in served:
            await self._health.set(binding.service_name, health_pb2.HealthCheckResponse.SERVING)
        log.info("serving", extra={"address": self.address})
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._server is not None:
            await self._health.enter_graceful_shutdown()
            grace_s = self._settings.drain_timeout_s
            drains = [binding.drain(grace_s) for binding in self._bindings if binding.drain is not None]
            await asyncio.gather(self._server.stop(grace_s), *drains)


async def serve_until_signal() -> None:
    """Returns at the first SIGTERM or SIGINT; leave the servers then, and they drain.

    Later signals are ignored: draining is bounded, and Ctrl-C often comes with a SIGTERM of the supervisor.
    """
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        del number, frame
        if not loop.is_closed():
            loop.call_soon_threadsafe(asked.set)

    # Not the loop's own handlers: those go with the loop, and a signal while telemetry is flushed would kill.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)
    # What is loaded by now stays to the end. The collector would look it all through, again and again: some
    # 10 % of the time that a call takes.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    await asked.wait()
    log.info("draining")


def _options(settings: KitSettings) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", int(settings.workers > 1)),
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        ("grpc.max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.max_concurrent_streams", MAX_STREAMS_PER_CONNECTION),
        ("grpc.max_connection_age_ms", round(settings.max_connection_age_s * 1000)),
        ("grpc.max_connection_age_grace_ms", round(settings.max_connection_age_grace_s * 1000)),
        ("grpc.keepalive_time_ms", KEEPALIVE_S * 1000),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_S * 1000),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", MIN_PING_INTERVAL_S * 1000),
    ]
