"""API keys in PostgreSQL, and the development key that `quartet up` makes."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import LiteralString

import psycopg
from psycopg.rows import tuple_row
from psycopg_pool import PoolTimeout

from services.gateway.domain.identity import ALL_SCOPES
from services.gateway.domain.keys import ApiKey, FormerSecret, key_id_of, make_key, seal_key
from services.gateway.domain.limits import LIMITS, SHARED_LIMITS, Limits
from services.gateway.domain.tenants import Tenant
from services.kit.errors import FailedPrecondition, Unavailable
from services.kit.postgres import Pool

LOOKUP_TIMEOUT_S = 2.0
CONNECT_TIMEOUT_S = 10
DEV_TENANT = "default"
DEV_NAME = "development key of quartet up"

# Put into SQL as text: nothing but names of our own stands in them.
_FIND = f"""
select k.id, k.tenant, k.scopes, k.salt, k.digest, k.expire_time, coalesce(k.revoke_time, t.delete_time),
  k.former_salt, k.former_digest, k.former_expire_time,
  {", ".join(f"k.{name}" for name in LIMITS)}, {", ".join(f"t.{name}" for name in SHARED_LIMITS)}
from gateway.api_keys k join gateway.tenants t on t.id = k.tenant where k.id = %s
"""  # noqa: S608
_FIND_TENANT = f"""
select id, {", ".join(SHARED_LIMITS)} from gateway.tenants where id = %s and delete_time is null
"""  # noqa: S608
_LIVE_KEYS = """
select k.id from gateway.api_keys k join gateway.tenants t on t.id = k.tenant
where k.id = any(%s) and k.revoke_time is null and (k.expire_time is null or k.expire_time > now())
  and t.delete_time is null
"""
_LIVE_TENANTS = "select id from gateway.tenants where id = any(%s) and delete_time is null"
_KEEP_TENANT = "insert into gateway.tenants (id, name) values (%s, %s) on conflict (id) do nothing"
_KEEP_KEY = """
insert into gateway.api_keys (id, tenant, name, scopes, salt, digest) values (%s, %s, %s, %s, %s, %s)
on conflict (id) do nothing
"""


class PostgresKeys:
    """Looks keys and tenants up; `Keys` made real."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def find(self, key_id: str) -> ApiKey | None:
        """The key of that id; raises Unavailable when the database does not answer within two seconds."""
        async with connect(self._pool) as connection:
            return await _find(connection, key_id)

    async def find_tenant(self, tenant: str) -> Tenant | None:
        """The tenant of that id; raises as `find`."""
        async with connect(self._pool) as connection:
            found = await connection.execute(_FIND_TENANT.encode(), (tenant,))
            row = await found.fetchone()
        if row is None:
            return None
        return Tenant(id=tenant, limits=Limits(**dict(zip(SHARED_LIMITS, row[1:], strict=True))))

    async def live_keys(self, key_ids: Sequence[str]) -> set[str]:
        """Those of the keys that may call; raises as `find`."""
        return await self._ids(_LIVE_KEYS, key_ids)

    async def live_tenants(self, tenants: Sequence[str]) -> set[str]:
        """Those of the tenants that there are; raises as `find`."""
        return await self._ids(_LIVE_TENANTS, tenants)

    async def _ids(self, statement: LiteralString, ids: Sequence[str]) -> set[str]:
        async with connect(self._pool) as connection:
            found = await connection.execute(statement, (list(ids),))
            return {row[0] for row in await found.fetchall()}


@asynccontextmanager
async def connect(pool: Pool) -> AsyncIterator[psycopg.AsyncConnection]:
    """A connection for two seconds; raises Unavailable when the database does not answer within them."""
    try:
        async with asyncio.timeout(LOOKUP_TIMEOUT_S), pool.connection() as connection:
            yield connection
    except (psycopg.OperationalError, PoolTimeout, TimeoutError):
        raise Unavailable(
            "API keys cannot be checked now, because the database does not answer: try again in a moment",
            reason="KEY_STORE_UNAVAILABLE",
            retry_after_s=1.0,
        ) from None


async def ensure_dev_key(database_url: str, path: Path) -> str:
    """The text of the development key: tenant `default`, all scopes, kept in `path` with mode 0600.

    It is made once. A later call gives the same one, and registers it again when the database lost it.

    Raises:
        FailedPrecondition: the file holds no key, or one that was rotated or revoked since.
        psycopg.Error: the database cannot be reached, or is not migrated.
    """
    text = await asyncio.to_thread(_keep_text, path)
    async with await psycopg.AsyncConnection.connect(
        database_url, connect_timeout=CONNECT_TIMEOUT_S
    ) as connection:
        known = await _find(connection, key_id_of(text))
        if known is None:
            key = seal_key(text, tenant=DEV_TENANT, scopes=frozenset({ALL_SCOPES}))
            await connection.execute(_KEEP_TENANT, (key.tenant, key.tenant))
            await connection.execute(
                _KEEP_KEY, (key.id, key.tenant, DEV_NAME, sorted(key.scopes), key.salt, key.digest)
            )
        elif not known.admits(text, datetime.now(UTC)):
            raise FailedPrecondition(
                f"the key in {path} was rotated or revoked: write a live one there, or remove the file, and "
                "a new key is made",
                reason="BROKEN_KEY_FILE",
            )
    return text


async def _find(connection: psycopg.AsyncConnection, key_id: str) -> ApiKey | None:
    cursor = connection.cursor(row_factory=tuple_row)
    await cursor.execute(_FIND.encode(), (key_id,))
    row = await cursor.fetchone()
    if row is None:
        return None
    found, tenant, scopes, salt, digest, expire_time, revoke_time, *rest = row
    former, own, shared = rest[:3], rest[3 : 3 + len(LIMITS)], rest[3 + len(LIMITS) :]
    return ApiKey(
        id=found,
        tenant=tenant,
        scopes=frozenset(scopes),
        salt=bytes(salt),
        digest=bytes(digest),
        expire_time=expire_time,
        revoke_time=revoke_time,
        limits=Limits(**dict(zip(LIMITS, own, strict=True))),
        tenant_limits=Limits(**dict(zip(SHARED_LIMITS, shared, strict=True))),
        former=_former(*former),
    )


def _former(salt: bytes | None, digest: bytes | None, expire_time: datetime | None) -> FormerSecret | None:
    if salt is None or digest is None or expire_time is None:
        return None
    return FormerSecret(salt=bytes(salt), digest=bytes(digest), expire_time=expire_time)


def _keep_text(path: Path) -> str:
    """The key in the file, made where there is none; whole or not at all, whoever else makes one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        _, text = make_key(tenant=DEV_TENANT, scopes=frozenset({ALL_SCOPES}))
        unfinished = path.with_name(f"{path.name}.{os.getpid()}")
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{text}\n")
        try:
            os.link(unfinished, path)
        except FileExistsError:
            pass
        finally:
            unfinished.unlink()
    path.chmod(0o600)
    kept = path.read_text(encoding="ascii", errors="replace").strip()
    if not key_id_of(kept):
        raise FailedPrecondition(
            f"{path} holds no API key: remove the file, and a new key is made", reason="BROKEN_KEY_FILE"
        )
    return kept
