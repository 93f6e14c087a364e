"""Changes of keys and tenants: each is one transaction with its audit entry."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from services.gateway.adapters.postgres.keys import connect
from services.gateway.domain.identity import Identity
from services.gateway.domain.tenants_order import no_such_tenant
from services.kit.errors import Unauthenticated
from services.kit.postgres import Pool

_IS_REVOKED = """
select 1 from gateway.api_keys k join gateway.tenants t on t.id = k.tenant
where k.id = %s and coalesce(k.revoke_time, t.delete_time) is not null
"""
# Held to the end of the transaction, so that no key appears while its tenant is being deleted.
_LOCK_TENANT = "select 1 from gateway.tenants where id = %s and delete_time is null for key share"
_AUDIT = """
insert into gateway.audit_log (tenant, key_id, action, subject, details) values (%s, %s, %s, %s, %s)
"""


@asynccontextmanager
async def change(pool: Pool, by: Identity) -> AsyncIterator[AsyncConnection]:
    """A transaction for the holder of a key that is not revoked, which the keyring may not know yet."""
    async with connect(pool) as connection, connection.transaction():
        revoked = await connection.execute(_IS_REVOKED, (by.id,))
        if await revoked.fetchone():
            message = "the API key was revoked: send another one"
            raise Unauthenticated(message, reason="INVALID_API_KEY")
        yield connection


async def lock_tenant(connection: AsyncConnection, tenant: str) -> None:
    """Keeps a tenant from being deleted until the transaction ends; raises NotFound."""
    found = await connection.execute(_LOCK_TENANT, (tenant,))
    if not await found.fetchone():
        raise no_such_tenant(tenant)


async def log_change(
    connection: AsyncConnection, by: Identity, tenant: str, action: str, subject: str, **details: object
) -> None:
    """Notes who did what, as part of the transaction that does it."""
    await connection.execute(_AUDIT, (tenant, by.id, action, subject, Jsonb(details)))
