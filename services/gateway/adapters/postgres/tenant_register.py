"""Tenants in PostgreSQL, as operators manage them."""

from collections.abc import Mapping

from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row

from quartet.gateway.v1 import key_pb2, tenant_pb2
from services.gateway.adapters.postgres.changes import change, log_change
from services.gateway.adapters.postgres.key_register import LIMITS
from services.gateway.adapters.postgres.keys import connect
from services.gateway.domain.identity import Identity
from services.gateway.domain.tenants_order import KEY_LIMITS, no_such_tenant
from services.kit.errors import AlreadyExists
from services.kit.postgres import Pool

TENANT_LIMITS = tuple(name for name in LIMITS if name not in KEY_LIMITS)

# Put into SQL as text: nothing but names of our own stands in them.
_TENANT = f"id, name, create_time, delete_time, {', '.join(TENANT_LIMITS)}"
_CREATE = f"""
insert into gateway.tenants (id, name, {", ".join(TENANT_LIMITS)})
values (%(id)s, %(name)s, {", ".join(f"%({name})s" for name in TENANT_LIMITS)})
on conflict (id) do nothing
returning {_TENANT}
"""  # noqa: S608
_PAGE = f"""
select {_TENANT} from gateway.tenants where id collate "C" > %(after)s order by id collate "C" limit %(limit)s
"""  # noqa: S608
_SET_LIMITS = f"""
update gateway.tenants set {", ".join(f"{name} = %({name})s" for name in TENANT_LIMITS)}
where id = %(id)s and delete_time is null
returning {_TENANT}
"""  # noqa: S608
_END = """
update gateway.tenants set delete_time = now() where id = %s and delete_time is null returning id
"""
_WAS_ENDED = """
select 1 from gateway.audit_log where tenant = %s and subject = tenant and action = 'delete_tenant' limit 1
"""
# Its keys go with it.
_REMOVE = "delete from gateway.tenants where id = %s and delete_time is not null"


class PostgresTenantRegister:
    """`TenantRegister` made real."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def create(
        self, by: Identity, tenant_id: str, *, name: str, limits: key_pb2.Limits
    ) -> tenant_pb2.Tenant:
        async with change(self._pool, by) as connection:
            made = await _tenants(connection, _CREATE, {"name": name, **_values(tenant_id, limits)})
            if not made:
                message = f"there is a tenant {tenant_id!r} already: choose another id"
                raise AlreadyExists(message, reason="TENANT_EXISTS")
            await log_change(
                connection, by, tenant_id, "create_tenant", tenant_id, name=name, **_told(limits)
            )
        return made[0]

    async def page(self, *, after: str, limit: int) -> list[tenant_pb2.Tenant]:
        async with connect(self._pool) as connection:
            return await _tenants(connection, _PAGE, {"after": after, "limit": limit})

    async def set_limits(self, by: Identity, tenant_id: str, limits: key_pb2.Limits) -> tenant_pb2.Tenant:
        async with change(self._pool, by) as connection:
            changed = await _tenants(connection, _SET_LIMITS, _values(tenant_id, limits))
            if not changed:
                raise no_such_tenant(tenant_id)
            await log_change(connection, by, tenant_id, "set_tenant_limits", tenant_id, **_told(limits))
        return changed[0]

    async def end(self, by: Identity, tenant_id: str) -> None:
        async with change(self._pool, by) as connection:
            ended = await connection.execute(_END, (tenant_id,))
            if await ended.fetchone():
                await log_change(connection, by, tenant_id, "delete_tenant", tenant_id)
                return
            before = await connection.execute(_WAS_ENDED, (tenant_id,))
            if not await before.fetchone():
                raise no_such_tenant(tenant_id)

    async def remove(self, tenant_id: str) -> None:
        async with connect(self._pool) as connection:
            await connection.execute(_REMOVE, (tenant_id,))


async def _tenants(
    connection: AsyncConnection, statement: str, values: Mapping[str, object]
) -> list[tenant_pb2.Tenant]:
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(statement.encode(), values)
    return [_to_tenant(row) for row in await cursor.fetchall()]


def _told(limits: key_pb2.Limits) -> dict[str, int]:
    return {limit.name: value for limit, value in limits.ListFields()}


def _values(tenant_id: str, limits: key_pb2.Limits) -> dict[str, object]:
    return {"id": tenant_id, **dict.fromkeys(TENANT_LIMITS), **_told(limits)}


def _to_tenant(row: DictRow) -> tenant_pb2.Tenant:
    tenant = tenant_pb2.Tenant(
        id=row["id"],
        name=row["name"] or row["id"],
        limits=key_pb2.Limits(**{limit: row[limit] for limit in TENANT_LIMITS}),
    )
    for member in ("create_time", "delete_time"):
        if row[member] is not None:
            getattr(tenant, member).FromDatetime(row[member])
    return tenant
