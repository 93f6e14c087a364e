"""What the gateway needs from the outside: three peers and its stores."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from quartet.gateway.v1 import key_pb2, tenant_pb2
from quartet.orchestrator.v1 import orchestrator_pb2
from quartet.pipeline.v1 import pipeline_pb2
from quartet.router.v1 import router_pb2
from services.gateway.domain.identity import Identity
from services.gateway.domain.keys import ApiKey
from services.gateway.domain.response_entries import Entry, Kind, Slot
from services.gateway.domain.tenants import Tenant
from services.kit.accounts.account import Amount, Caps, Limit, Standing
from services.kit.call import Call


class Keys(Protocol):
    """Where API keys and their tenants are kept; raises Unavailable when it does not answer."""

    async def find(self, key_id: str) -> ApiKey | None:
        """The key of that id, whatever its state."""
        ...

    async def find_tenant(self, tenant: str) -> Tenant | None:
        """The tenant of that id."""
        ...

    async def live_keys(self, key_ids: Sequence[str]) -> set[str]:
        """Those of the keys that are neither revoked nor expired, nor gone with their tenants."""
        ...

    async def live_tenants(self, tenants: Sequence[str]) -> set[str]:
        """Those of the tenants that there are."""
        ...


class Jwts(Protocol):
    """An issuer whose signed tokens are accepted."""

    @property
    def remedy(self) -> str:
        """What a token must be to be accepted, for whoever sent another one."""
        ...

    async def read(self, text: str, now: datetime) -> Identity | None:
        """Whom a valid token speaks for; None for every other text.

        Raises Unavailable when the issuer's keys were never had.
        """
        ...


class KeyRegister(Protocol):
    """Where the holders of keys change the keys of their tenant.

    Every method raises Unavailable when the store does not answer. Those that change something note in the
    audit log that `by` did it, all or nothing, and raise Unauthenticated when `by` was revoked meanwhile.
    """

    async def create(
        self, by: Identity, key: ApiKey, *, name: str, lifetime: timedelta | None, limits: key_pb2.Limits
    ) -> key_pb2.Key:
        """Keeps a new key, which without a lifetime lives until revoked; raises NotFound for its tenant."""
        ...

    async def get(self, tenant: str, key_id: str) -> key_pb2.Key:
        """A key of the tenant; raises NotFound."""
        ...

    async def page(self, tenant: str, *, after: str, limit: int) -> list[key_pb2.Key]:
        """Keys of the tenant, newest first; those older than the key `after`, unless that is empty."""
        ...

    async def rotate(self, by: Identity, key_id: str, text: str, *, overlap: timedelta) -> key_pb2.Key:
        """Gives a key a new text; raises NotFound, and FailedPrecondition when the key has ended."""
        ...

    async def revoke(self, by: Identity, key_id: str) -> key_pb2.Key:
        """Ends a key, once; raises NotFound."""
        ...


class Accounts(Protocol):
    """Where requests' accounts are kept; see `services.kit.accounts`."""

    async def open(
        self, tenant: str, limits: Sequence[Limit], amount: Amount, caps: Caps
    ) -> tuple[str, list[Standing]]:
        """A new account's id, and how its limits stand; raises RefusedError, AccountsUnavailableError."""
        ...

    def close(self, tenant: str, account: str) -> None:
        """Ends an account, soon."""
        ...

    def release(self, account: str) -> None:
        """Leaves an account to another owner."""
        ...


class TenantRegister(Protocol):
    """Where operators change tenants; what `KeyRegister` says of changes holds here, too."""

    async def create(
        self, by: Identity, tenant_id: str, *, name: str, limits: key_pb2.Limits
    ) -> tenant_pb2.Tenant:
        """Makes a tenant; raises AlreadyExists."""
        ...

    async def page(self, *, after: str, limit: int) -> list[tenant_pb2.Tenant]:
        """Tenants by id, from the first one after `after`."""
        ...

    async def set_limits(self, by: Identity, tenant_id: str, limits: key_pb2.Limits) -> tenant_pb2.Tenant:
        """Replaces a tenant's limits; raises NotFound."""
        ...

    async def end(self, by: Identity, tenant_id: str) -> None:
        """Ends a tenant's keys, once; raises NotFound for one that never was."""
        ...

    async def remove(self, tenant_id: str) -> None:
        """Removes a tenant that was ended, with its keys."""
        ...


class TenantEntries(Protocol):
    """What is kept of tenants outside the services' databases."""

    async def delete(self, tenant: str) -> int:
        """Removes it and gives the number of entries; raises Unavailable."""
        ...


class Audit(Protocol):
    """Who changed keys and tenants."""

    async def page(
        self, tenant: str | None, *, action: str, subject: str, before: int | None, limit: int
    ) -> list[tuple[int, key_pb2.AuditEntry]]:
        """Numbered entries below a number, newest first, of a tenant or of all; raises Unavailable."""
        ...


class Usage(Protocol):
    """What tenants used."""

    async def sum_up(
        self, tenant: str, start: datetime, end: datetime, group_by: Sequence[str]
    ) -> list[key_pb2.UsageRow]:
        """A row per group, dearest first, from start to before end.

        Raises Unavailable when the ledger does not answer.
        """
        ...


class ResponseStore(Protocol):
    """Where the response log is kept; raises StoreUnavailableError when it does not answer.

    Each slot holds one answer: a claim, then entries of its owner, the last of which may be an end.
    """

    async def claim(self, slot: Slot, fingerprint: str, owner: str, lapse_s: float) -> str | None:
        """Claims the slot where it is empty or ended in a failure, for a time; else its fingerprint."""
        ...

    async def append(
        self,
        slot: Slot,
        owner: str,
        kind: Kind,
        *,
        start: int,
        messages: tuple[bytes, ...],
        expire_s: float,
    ) -> bool:
        """Adds an entry, and lets the whole slot lapse after a time; False when another owns it by now."""
        ...

    async def renew(self, slot: Slot, owner: str, expire_s: float) -> bool:
        """Lets the slot lapse after a time from now; False when another owns it by now."""
        ...

    async def release(self, slot: Slot, owner: str) -> None:
        """Empties the slot if the owner holds it."""
        ...

    async def read(self, slot: Slot, cursor: str) -> list[Entry] | None:
        """Some entries behind the cursor, which is empty at first; None when the slot is empty."""
        ...


class Router(Protocol):
    """`quartet.router.v1.RouterService`, as far as the gateway calls it."""

    async def route(self, request: router_pb2.RouteRequest, call: Call) -> router_pb2.RouteResponse: ...

    async def generate(
        self, request: router_pb2.GenerateRequest, call: Call
    ) -> router_pb2.GenerateResponse: ...

    def stream_generate(
        self, request: router_pb2.StreamGenerateRequest, call: Call
    ) -> AsyncGenerator[router_pb2.StreamGenerateResponse]: ...

    async def embed(self, request: router_pb2.EmbedRequest, call: Call) -> router_pb2.EmbedResponse: ...

    async def list_models(
        self, request: router_pb2.ListModelsRequest, call: Call
    ) -> router_pb2.ListModelsResponse: ...

    async def record_outcome(
        self, request: router_pb2.RecordOutcomeRequest, call: Call
    ) -> router_pb2.RecordOutcomeResponse: ...

    async def compare_policies(
        self, request: router_pb2.ComparePoliciesRequest, call: Call
    ) -> router_pb2.ComparePoliciesResponse: ...

    async def delete_tenant_data(
        self, request: router_pb2.DeleteTenantDataRequest, call: Call
    ) -> router_pb2.DeleteTenantDataResponse: ...


class Pipeline(Protocol):
    """`quartet.pipeline.v1.PipelineService`: running, searching, and what is passed through for documents."""

    async def run(self, request: pipeline_pb2.RunRequest, call: Call) -> pipeline_pb2.RunResponse: ...

    def stream_run(
        self, request: pipeline_pb2.StreamRunRequest, call: Call
    ) -> AsyncGenerator[pipeline_pb2.StreamRunResponse]: ...

    async def retrieve(
        self, request: pipeline_pb2.RetrieveRequest, call: Call
    ) -> pipeline_pb2.RetrieveResponse: ...

    async def list_pipelines(
        self, request: pipeline_pb2.ListPipelinesRequest, call: Call
    ) -> pipeline_pb2.ListPipelinesResponse: ...

    async def create_collection(
        self, request: pipeline_pb2.CreateCollectionRequest, call: Call
    ) -> pipeline_pb2.CreateCollectionResponse: ...

    async def list_collections(
        self, request: pipeline_pb2.ListCollectionsRequest, call: Call
    ) -> pipeline_pb2.ListCollectionsResponse: ...

    async def delete_collection(
        self, request: pipeline_pb2.DeleteCollectionRequest, call: Call
    ) -> pipeline_pb2.DeleteCollectionResponse: ...

    async def ingest_documents(
        self, requests: AsyncIterator[pipeline_pb2.IngestDocumentsRequest], call: Call
    ) -> pipeline_pb2.IngestDocumentsResponse: ...

    async def get_ingest_job(
        self, request: pipeline_pb2.GetIngestJobRequest, call: Call
    ) -> pipeline_pb2.GetIngestJobResponse: ...

    def watch_ingest_job(
        self, request: pipeline_pb2.WatchIngestJobRequest, call: Call
    ) -> AsyncGenerator[pipeline_pb2.WatchIngestJobResponse]: ...

    async def cancel_ingest_job(
        self, request: pipeline_pb2.CancelIngestJobRequest, call: Call
    ) -> pipeline_pb2.CancelIngestJobResponse: ...

    async def get_document(
        self, request: pipeline_pb2.GetDocumentRequest, call: Call
    ) -> pipeline_pb2.GetDocumentResponse: ...

    async def list_documents(
        self, request: pipeline_pb2.ListDocumentsRequest, call: Call
    ) -> pipeline_pb2.ListDocumentsResponse: ...

    async def delete_document(
        self, request: pipeline_pb2.DeleteDocumentRequest, call: Call
    ) -> pipeline_pb2.DeleteDocumentResponse: ...

    async def delete_tenant_data(
        self, request: pipeline_pb2.DeleteTenantDataRequest, call: Call
    ) -> pipeline_pb2.DeleteTenantDataResponse: ...


class Orchestrator(Protocol):
    """`quartet.orchestrator.v1.OrchestratorService`, as far as the gateway calls it."""

    async def start_run(
        self, request: orchestrator_pb2.StartRunRequest, call: Call
    ) -> orchestrator_pb2.StartRunResponse: ...

    async def get_run(
        self, request: orchestrator_pb2.GetRunRequest, call: Call
    ) -> orchestrator_pb2.GetRunResponse: ...

    async def list_runs(
        self, request: orchestrator_pb2.ListRunsRequest, call: Call
    ) -> orchestrator_pb2.ListRunsResponse: ...

    def watch_run(
        self, request: orchestrator_pb2.WatchRunRequest, call: Call
    ) -> AsyncGenerator[orchestrator_pb2.WatchRunResponse]: ...

    async def cancel_run(
        self, request: orchestrator_pb2.CancelRunRequest, call: Call
    ) -> orchestrator_pb2.CancelRunResponse: ...

    def stream_execute(
        self, request: orchestrator_pb2.StreamExecuteRequest, call: Call
    ) -> AsyncGenerator[orchestrator_pb2.StreamExecuteResponse]: ...

    async def delete_tenant_data(
        self, request: orchestrator_pb2.DeleteTenantDataRequest, call: Call
    ) -> orchestrator_pb2.DeleteTenantDataResponse: ...
