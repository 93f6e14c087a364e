"""The connections to one address: balancing, retries, keepalive, bounds."""

import json
from dataclasses import dataclass, field
from functools import cached_property

import grpc

from services.kit.settings import MAX_MESSAGE_BYTES

KEEPALIVE_S = 30
KEEPALIVE_TIMEOUT_S = 10
MIN_RECONNECT_MS, MAX_RECONNECT_MS = 100, 2000
"""A restarted peer is found again within this time; gRPC's own maximum is two minutes."""

_SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.05s",
                "maxBackoff": "0.5s",
                "backoffMultiplier": 3,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
    "retryThrottling": {"maxTokens": 20, "tokenRatio": 0.1},
}
"""Only UNAVAILABLE is tried again, by gRPC itself, and only while no part of a response has come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a TLS connection is made with, each in PEM.

    Attributes:
        authorities: Whom to trust, instead of the system's authorities.
        certificate: Ours, for a peer that asks for one, with its `key`.
    """

    authorities: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = field(default=None, repr=False)


class Channel:
    """The connections to one address, shared by all clients of the services there.

    Args:
        address: host:port, or a gRPC target such as `dns:///router:50052` whose addresses take turns.
        tls: With them the peer must prove who it is; None speaks plain text.
    """

    def __init__(self, address: str, *, tls: Credentials | None = None) -> None:
        self.address = address
        self._tls = tls

    @cached_property
    def grpc(self) -> grpc.aio.Channel:
        """Made at the first call, because gRPC binds it to the running loop."""
        options = [
            ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ("grpc.keepalive_time_ms", KEEPALIVE_S * 1000),
            ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_S * 1000),
            ("grpc.http2.max_pings_without_data", 0),
            ("grpc.initial_reconnect_backoff_ms", MIN_RECONNECT_MS),
            ("grpc.min_reconnect_backoff_ms", MIN_RECONNECT_MS),
            ("grpc.max_reconnect_backoff_ms", MAX_RECONNECT_MS),
            ("grpc.enable_http_proxy", 0),
        ]
        if self._tls is not None:
            credentials = grpc.ssl_channel_credentials(
                self._tls.authorities, self._tls.key, self._tls.certificate
            )
            return grpc.aio.secure_channel(self.address, credentials, options=options)
        return grpc.aio.insecure_channel(self.address, options=options)

    async def close(self) -> None:
        """Cancels the calls in flight and closes the connections."""
        if "grpc" in self.__dict__:
            await self.grpc.close()
