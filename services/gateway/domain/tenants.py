"""Tenants: who owns keys, documents, runs and what they cost."""

import re
from dataclasses import dataclass

from services.gateway.domain.limits import NO_LIMITS, Limits

_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """A tenant that may call, and what all its keys together may use."""

    id: str
    limits: Limits = NO_LIMITS


def is_tenant_id(text: str) -> bool:
    """Whether it has the form of a tenant's id."""
    return _ID.fullmatch(text) is not None
