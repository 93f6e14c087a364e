from quartet.gateway.v1 import tenant_pb2
from services.gateway.domain.front import Front
from services.gateway.domain.identity import TENANTS_SCOPE, Identity
from services.gateway.domain.keys_order import DEFAULT_PAGE_SIZE, read_name
from services.gateway.domain.tenant_removal import Removal
from services.gateway.domain.tenants_order import read_tenant_id, read_tenant_limits, read_tenant_token
from services.gateway.ports import TenantRegister
from services.kit.call import Call
from services.kit.errors import PermissionDenied


class TenantService:
    """`quartet.gateway.v1.TenantService`: the tenants, for operators alone."""

    def __init__(self, front: Front, register: TenantRegister, removal: Removal) -> None:
        self._front = front
        self._register = register
        self._removal = removal

    async def create_tenant(
        self, request: tenant_pb2.CreateTenantRequest, call: Call
    ) -> tenant_pb2.CreateTenantResponse:
        by = await self._enter(call, "CreateTenant")
        tenant = await self._register.create(
            by,
            request.id,
            name=read_name(request.name or request.id),
            limits=read_tenant_limits(request.limits),
        )
        return tenant_pb2.CreateTenantResponse(tenant=tenant)

    async def list_tenants(
        self, request: tenant_pb2.ListTenantsRequest, call: Call
    ) -> tenant_pb2.ListTenantsResponse:
        await self._enter(call, "ListTenants")
        size = request.page_size or DEFAULT_PAGE_SIZE
        after = read_tenant_token(request.page_token)
        tenants = await self._register.page(after=after, limit=size + 1)
        token = tenants[size - 1].id if len(tenants) > size else ""
        return tenant_pb2.ListTenantsResponse(tenants=tenants[:size], next_page_token=token)

    async def set_tenant_limits(
        self, request: tenant_pb2.SetTenantLimitsRequest, call: Call
    ) -> tenant_pb2.SetTenantLimitsResponse:
        by = await self._enter(call, "SetTenantLimits")
        limits = read_tenant_limits(request.limits)
        tenant = await self._register.set_limits(by, read_tenant_id(request.tenant_id), limits)
        return tenant_pb2.SetTenantLimitsResponse(tenant=tenant)

    async def delete_tenant(
        self, request: tenant_pb2.DeleteTenantRequest, call: Call
    ) -> tenant_pb2.DeleteTenantResponse:
        by = await self._enter(call, "DeleteTenant")
        deleted = await self._removal.remove(by, request.tenant_id, call)
        return tenant_pb2.DeleteTenantResponse(deleted_entries=deleted)

    async def _enter(self, call: Call, rpc: str) -> Identity:
        caller = await self._front.enter(call, rpc)
        if not caller.key.allows_tenants():
            raise PermissionDenied(
                "this key may not manage tenants: use an operator's, with the scope `tenants`",
                reason="SCOPE_MISSING",
                metadata={"scope": TENANTS_SCOPE},
            )
        return caller.key
