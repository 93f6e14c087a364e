"""The end of a tenant with all its data."""

import asyncio
from typing import TYPE_CHECKING

from quartet.orchestrator.v1 import orchestrator_pb2
from quartet.pipeline.v1 import pipeline_pb2
from quartet.router.v1 import router_pb2
from services.gateway.domain.identity import Identity
from services.gateway.domain.tenants_order import read_tenant_id
from services.kit.call import Call
from services.kit.errors import FailedPrecondition

if TYPE_CHECKING:
    from services.gateway.ports import Orchestrator, Pipeline, Router, TenantEntries, TenantRegister

SETTLE_S = 2.0
"""In which every replica refuses the credentials of a tenant that ends, then has ended its calls, and the
routers have written what those cost."""


class Removal:
    """Ends tenants; each service removes what it keeps, so that no one needs to know another's tables.

    Args:
        entries: The stores' own of the gateway and of all services; None without such a store.
        pause_s: Left between the end of a tenant's keys and that of its data.
    """

    def __init__(
        self,
        register: "TenantRegister",
        router: "Router",
        pipeline: "Pipeline",
        orchestrator: "Orchestrator",
        entries: "TenantEntries | None",
        *,
        pause_s: float = SETTLE_S,
    ) -> None:
        self._register = register
        self._router = router
        self._pipeline = pipeline
        self._orchestrator = orchestrator
        self._entries = entries
        self._pause_s = pause_s

    async def remove(self, by: Identity, tenant: str, call: Call) -> int:
        """Removes a tenant and gives the number of entries that went; whatever fails, it may be repeated.

        Runs and jobs go first, since they make more data while they last.

        Raises:
            FailedPrecondition: the tenant is the caller's own, whose key this would end on the way.
            NotFound: there never was such a tenant.
            Unavailable: a service or a store is away.
        """
        if tenant == by.tenant:
            message = f"{tenant!r} is this key's own tenant: delete it with an operator's key of another one"
            raise FailedPrecondition(message, reason="OWN_TENANT")
        await self._register.end(by, read_tenant_id(tenant))
        await asyncio.sleep(self._pause_s)
        theirs = call.identified(tenant=tenant, key_id=by.id)
        runs = await self._orchestrator.delete_tenant_data(
            orchestrator_pb2.DeleteTenantDataRequest(), theirs.outgoing()
        )
        documents = await self._pipeline.delete_tenant_data(
            pipeline_pb2.DeleteTenantDataRequest(), theirs.outgoing()
        )
        calls = await self._router.delete_tenant_data(router_pb2.DeleteTenantDataRequest(), theirs.outgoing())
        entries = await self._entries.delete(tenant) if self._entries is not None else 0
        await self._register.remove(tenant)
        return runs.deleted_rows + documents.deleted_rows + calls.deleted_rows + entries
