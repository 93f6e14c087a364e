from datetime import UTC, datetime

from quartet.gateway.v1 import key_pb2
from services.gateway.domain.front import Front
from services.gateway.domain.identity import KEYS_SCOPE, TENANTS_SCOPE, Identity
from services.gateway.domain.keys import make_key, make_text
from services.gateway.domain.keys_bounds import check_known_bounds, check_new_bounds
from services.gateway.domain.keys_order import (
    DEFAULT_PAGE_SIZE,
    read_key_id,
    read_lifetime,
    read_limits,
    read_name,
    read_number_token,
    read_overlap,
    read_page_token,
)
from services.gateway.domain.keys_scopes import check_grant, check_grant_to_other, read_scopes
from services.gateway.domain.tenants_order import read_tenant_id
from services.gateway.domain.usage_order import read_period
from services.gateway.ports import Audit, KeyRegister, Usage
from services.kit.call import Call
from services.kit.errors import PermissionDenied


class KeyService:
    """`quartet.gateway.v1.KeyService`: keys, usage and changes of the caller's tenant.

    Of other tenants operators alone see the changes, and make keys for them.
    """

    def __init__(self, front: Front, register: KeyRegister, usage: Usage, audit: Audit) -> None:
        self._front = front
        self._register = register
        self._usage = usage
        self._audit = audit

    async def create_key(self, request: key_pb2.CreateKeyRequest, call: Call) -> key_pb2.CreateKeyResponse:
        caller = await self._front.enter(call, "CreateKey")
        by, tenant = caller.key, request.tenant or caller.key.tenant
        scopes, limits = read_scopes(request.scopes), read_limits(request.limits)
        lifetime = read_lifetime(request)
        if tenant == by.tenant:
            _need_keys_scope(by)
            check_grant(by, scopes)
            check_new_bounds(by, limits, lifetime, datetime.now(UTC))
        else:
            _need_tenants_scope(by)
            check_grant_to_other(scopes)
        key, text = make_key(tenant=read_tenant_id(tenant), scopes=scopes)
        made = await self._register.create(
            by,
            key,
            name=read_name(request.name),
            lifetime=lifetime,
            limits=limits,
        )
        return key_pb2.CreateKeyResponse(key=made, secret=text)

    async def list_keys(self, request: key_pb2.ListKeysRequest, call: Call) -> key_pb2.ListKeysResponse:
        by = await self._enter(call, "ListKeys")
        size = request.page_size or DEFAULT_PAGE_SIZE
        after = read_page_token(request.page_token)
        keys = await self._register.page(by.tenant, after=after, limit=size + 1)
        token = keys[size - 1].id if len(keys) > size else ""
        return key_pb2.ListKeysResponse(keys=keys[:size], next_page_token=token)

    async def rotate_key(self, request: key_pb2.RotateKeyRequest, call: Call) -> key_pb2.RotateKeyResponse:
        """A second rotation within the overlap ends the oldest secret: two are valid at most."""
        by = await self._enter(call, "RotateKey")
        key_id, overlap = read_key_id(request.key_id), read_overlap(request)
        known = await self._register.get(by.tenant, key_id)
        # Whoever gets a key's secret can do what that key can.
        check_grant(by, frozenset(known.scopes))
        check_known_bounds(by, known)
        text = make_text(key_id)
        rotated = await self._register.rotate(by, key_id, text, overlap=overlap)
        return key_pb2.RotateKeyResponse(key=rotated, secret=text)

    async def revoke_key(self, request: key_pb2.RevokeKeyRequest, call: Call) -> key_pb2.RevokeKeyResponse:
        by = await self._enter(call, "RevokeKey")
        key = await self._register.revoke(by, read_key_id(request.key_id))
        return key_pb2.RevokeKeyResponse(key=key)

    async def get_usage(self, request: key_pb2.GetUsageRequest, call: Call) -> key_pb2.GetUsageResponse:
        by = await self._enter(call, "GetUsage")
        start, end = read_period(request, datetime.now(UTC))
        rows = await self._usage.sum_up(by.tenant, start, end, request.group_by)
        return key_pb2.GetUsageResponse(rows=rows)

    async def list_audit_entries(
        self, request: key_pb2.ListAuditEntriesRequest, call: Call
    ) -> key_pb2.ListAuditEntriesResponse:
        key = (await self._front.enter(call, "ListAuditEntries")).key
        if not key.allows_tenants():
            _need_keys_scope(key)
        size = request.page_size or DEFAULT_PAGE_SIZE
        entries = await self._audit.page(
            None if key.allows_tenants() else key.tenant,
            action=request.action,
            subject=request.subject,
            before=read_number_token(request.page_token),
            limit=size + 1,
        )
        token = str(entries[size - 1][0]) if len(entries) > size else ""
        page = [entry for _, entry in entries[:size]]
        return key_pb2.ListAuditEntriesResponse(entries=page, next_page_token=token)

    async def _enter(self, call: Call, rpc: str) -> Identity:
        caller = await self._front.enter(call, rpc)
        _need_keys_scope(caller.key)
        return caller.key


def _need_keys_scope(key: Identity) -> None:
    if not key.allows_keys():
        raise PermissionDenied(
            "this key may not manage keys or see usage: use one with the scope `keys`",
            reason="SCOPE_MISSING",
            metadata={"scope": KEYS_SCOPE},
        )


def _need_tenants_scope(key: Identity) -> None:
    if not key.allows_tenants():
        raise PermissionDenied(
            "this key may not make keys for another tenant: leave `tenant` out, or use an operator's key",
            reason="SCOPE_MISSING",
            metadata={"scope": TENANTS_SCOPE},
        )
