"""What may be asked of tenants: ids and limits, read from requests."""

from quartet.gateway.v1 import key_pb2
from services.gateway.domain.keys_order import read_limits
from services.gateway.domain.tenants import is_tenant_id
from services.kit.errors import InvalidArgument, NotFound

KEY_LIMITS = frozenset({"input_tokens_per_request"})
"""Limits of one request, which tenants have not."""


def read_tenant_id(tenant: str) -> str:
    """A text with the form of a tenant's id; raises NotFound for another one."""
    if not is_tenant_id(tenant):
        raise no_such_tenant(tenant)
    return tenant


def read_tenant_token(token: str) -> str:
    """The id of the last tenant of the page before; empty for the first page."""
    if token and not is_tenant_id(token):
        raise InvalidArgument.field(
            "page_token", "is not from an earlier answer: leave it empty to start", reason="INVALID_REQUEST"
        )
    return token


def read_tenant_limits(limits: key_pb2.Limits) -> key_pb2.Limits:
    """The limits, which must be numbers that a store can hold, and limits that tenants have."""
    for field, _ in limits.ListFields():
        if field.name in KEY_LIMITS:
            raise InvalidArgument.field(
                f"limits.{field.name}", "is a limit of keys: set it for each key", reason="INVALID_REQUEST"
            )
    return read_limits(limits)


def no_such_tenant(tenant: str) -> NotFound:
    """The error for a tenant that is not there."""
    return NotFound(
        f"there is no tenant {tenant!r}: `quartet tenants list` shows those there are",
        reason="TENANT_NOT_FOUND",
    )
