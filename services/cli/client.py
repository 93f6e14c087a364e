"""The connection to a suite's edge, and the public contracts that the commands use."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol
from urllib.parse import urlsplit

from grpc_health.v1 import health_pb2  # type: ignore[import-untyped]

from quartet.gateway.v1 import document_pb2, gateway_pb2, key_pb2, run_pb2, tenant_pb2
from services.cli.settings import ClientSettings
from services.kit.call import Call
from services.kit.channel import Channel
from services.kit.client import remote
from services.kit.names import TRACE_ID_HEADER

UNARY_TIMEOUT_S = 120.0
STREAM_TIMEOUT_S = 600.0


class Gateway(Protocol):
    """`quartet.gateway.v1.GatewayService`."""

    async def generate(
        self, request: gateway_pb2.GenerateRequest, call: Call
    ) -> gateway_pb2.GenerateResponse: ...

    def stream_generate(
        self, request: gateway_pb2.StreamGenerateRequest, call: Call
    ) -> AsyncGenerator[gateway_pb2.StreamGenerateResponse, None]: ...

    async def explain_route(
        self, request: gateway_pb2.ExplainRouteRequest, call: Call
    ) -> gateway_pb2.ExplainRouteResponse: ...

    async def list_models(
        self, request: gateway_pb2.ListModelsRequest, call: Call
    ) -> gateway_pb2.ListModelsResponse: ...

    async def record_outcome(
        self, request: gateway_pb2.RecordOutcomeRequest, call: Call
    ) -> gateway_pb2.RecordOutcomeResponse: ...

    async def compare_policies(
        self, request: gateway_pb2.ComparePoliciesRequest, call: Call
    ) -> gateway_pb2.ComparePoliciesResponse: ...


class Documents(Protocol):
    """`quartet.gateway.v1.DocumentService`."""

    async def list_collections(
        self, request: document_pb2.ListCollectionsRequest, call: Call
    ) -> document_pb2.ListCollectionsResponse: ...

    async def list_documents(
        self, request: document_pb2.ListDocumentsRequest, call: Call
    ) -> document_pb2.ListDocumentsResponse: ...

    async def get_document(
        self, request: document_pb2.GetDocumentRequest, call: Call
    ) -> document_pb2.GetDocumentResponse: ...

    async def search(
        self, request: document_pb2.SearchRequest, call: Call
    ) -> document_pb2.SearchResponse: ...

    async def ingest_documents(
        self, requests: AsyncIterator[document_pb2.IngestDocumentsRequest], call: Call
    ) -> document_pb2.IngestDocumentsResponse: ...

    async def get_ingest_job(
        self, request: document_pb2.GetIngestJobRequest, call: Call
    ) -> document_pb2.GetIngestJobResponse: ...

    def watch_ingest_job(
        self, request: document_pb2.WatchIngestJobRequest, call: Call
    ) -> AsyncGenerator[document_pb2.WatchIngestJobResponse, None]: ...

    async def cancel_ingest_job(
        self, request: document_pb2.CancelIngestJobRequest, call: Call
    ) -> document_pb2.CancelIngestJobResponse: ...


class Runs(Protocol):
    """`quartet.gateway.v1.RunService`."""

    async def list_runs(self, request: run_pb2.ListRunsRequest, call: Call) -> run_pb2.ListRunsResponse: ...

    async def get_run(self, request: run_pb2.GetRunRequest, call: Call) -> run_pb2.GetRunResponse: ...

    def watch_run(
        self, request: run_pb2.WatchRunRequest, call: Call
    ) -> AsyncGenerator[run_pb2.WatchRunResponse, None]: ...

    async def cancel_run(
        self, request: run_pb2.CancelRunRequest, call: Call
    ) -> run_pb2.CancelRunResponse: ...


class Keys(Protocol):
    """`quartet.gateway.v1.KeyService`, as far as it is about keys."""

    async def create_key(
        self, request: key_pb2.CreateKeyRequest, call: Call
    ) -> key_pb2.CreateKeyResponse: ...

    async def list_keys(self, request: key_pb2.ListKeysRequest, call: Call) -> key_pb2.ListKeysResponse: ...

    async def rotate_key(
        self, request: key_pb2.RotateKeyRequest, call: Call
    ) -> key_pb2.RotateKeyResponse: ...

    async def revoke_key(
        self, request: key_pb2.RevokeKeyRequest, call: Call
    ) -> key_pb2.RevokeKeyResponse: ...

    async def list_audit_entries(
        self, request: key_pb2.ListAuditEntriesRequest, call: Call
    ) -> key_pb2.ListAuditEntriesResponse: ...


class Tenants(Protocol):
    """`quartet.gateway.v1.TenantService`."""

    async def create_tenant(
        self, request: tenant_pb2.CreateTenantRequest, call: Call
    ) -> tenant_pb2.CreateTenantResponse: ...

    async def list_tenants(
        self, request: tenant_pb2.ListTenantsRequest, call: Call
    ) -> tenant_pb2.ListTenantsResponse: ...

    async def set_tenant_limits(
        self, request: tenant_pb2.SetTenantLimitsRequest, call: Call
    ) -> tenant_pb2.SetTenantLimitsResponse: ...

    async def delete_tenant(
        self, request: tenant_pb2.DeleteTenantRequest, call: Call
    ) -> tenant_pb2.DeleteTenantResponse: ...


class Usage(Protocol):
    """`quartet.gateway.v1.KeyService`, as far as it tells what was used."""

    async def get_usage(self, request: key_pb2.GetUsageRequest, call: Call) -> key_pb2.GetUsageResponse: ...


class Health(Protocol):
    """`grpc.health.v1.Health`."""

    async def check(self, request: Any, call: Call) -> Any: ...


class Client:
    """The public contracts at one edge, called with one key; made by `connect`."""

    def __init__(self, settings: ClientSettings, channel: Channel, key: str) -> None:
        self.settings = settings
        self.has_key = bool(key)
        self.gateway: Gateway = remote("quartet.gateway.v1.GatewayService", channel)
        self.documents: Documents = remote("quartet.gateway.v1.DocumentService", channel)
        self.runs: Runs = remote("quartet.gateway.v1.RunService", channel)
        self.keys: Keys = remote("quartet.gateway.v1.KeyService", channel)
        self.tenants: Tenants = remote("quartet.gateway.v1.TenantService", channel)
        self.usage: Usage = remote("quartet.gateway.v1.KeyService", channel)
        self.health: Health = remote("grpc.health.v1.Health", channel)
        self._metadata = {"authorization": f"Bearer {key}"} if key else {}
        self._last_call: Call | None = None

    def call(self, timeout_s: float = UNARY_TIMEOUT_S) -> Call:
        """A call with the key and a deadline; the trace of the last one is `trace_id`."""
        self._last_call = Call.root(timeout_s=timeout_s, metadata=self._metadata)
        return self._last_call

    @property
    def trace_id(self) -> str:
        """The trace of the call made last, once the edge has told it; 32 hex digits or empty."""
        return self._last_call.response_headers.get(TRACE_ID_HEADER, "") if self._last_call else ""

    async def is_serving(self, timeout_s: float) -> bool:
        """Whether the edge's gateway calls itself healthy."""
        request = health_pb2.HealthCheckRequest(service="quartet.gateway.v1.GatewayService")
        answer = await self.health.check(request, self.call(timeout_s))
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


@asynccontextmanager
async def connect(settings: ClientSettings) -> AsyncIterator[Client]:
    """A client of the edge that the settings name; nothing is sent before the first call."""
    channel = open_channel(settings)
    try:
        yield Client(settings, channel, settings.read_key())
    finally:
        await channel.close()


def open_channel(settings: ClientSettings) -> Channel:
    """The channel to the edge; raises SettingsError for a certificate that cannot be read."""
    parts = urlsplit(settings.url)
    tls = settings.read_credentials() if parts.scheme == "https" else None
    return Channel(parts.netloc if parts.port else f"{parts.netloc}:{80 if tls is None else 443}", tls=tls)
