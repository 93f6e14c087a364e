"""The tenants' keys as their holders manage them; each change is written together with its audit entry."""

from collections.abc import Mapping
from datetime import timedelta

from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row

from quartet.gateway.v1 import key_pb2
from services.gateway.adapters.postgres.changes import change, lock_tenant, log_change
from services.gateway.adapters.postgres.keys import connect
from services.gateway.domain.identity import Identity
from services.gateway.domain.keys import ApiKey, seal_text
from services.gateway.domain.keys_order import no_such_key
from services.kit.errors import FailedPrecondition
from services.kit.postgres import Pool

LIMITS = tuple(field.name for field in key_pb2.Limits.DESCRIPTOR.fields)
"""Each limit of the contract is a column of that name."""

# Put into SQL as text: nothing but names of our own stands in them.
_KEY = f"id, name, tenant, scopes, create_time, expire_time, revoke_time, {', '.join(LIMITS)}"
_CREATE = f"""
insert into gateway.api_keys (id, tenant, name, scopes, salt, digest, expire_time, {", ".join(LIMITS)})
values (
  %(id)s, %(tenant)s, %(name)s, %(scopes)s, %(salt)s, %(digest)s, now() + %(lifetime)s::interval,
  {", ".join(f"%({name})s" for name in LIMITS)}
)
returning {_KEY}
"""  # noqa: S608
_GET = f"select {_KEY} from gateway.api_keys where tenant = %(tenant)s and id = %(id)s"  # noqa: S608
_PAGE = f"""
select {_KEY} from gateway.api_keys
where tenant = %(tenant)s and (%(after)s::text = '' or (create_time, id) < (
  select create_time, id from gateway.api_keys where tenant = %(tenant)s and id = %(after)s
))
order by create_time desc, id desc limit %(limit)s
"""  # noqa: S608
_ROTATE = f"""
update gateway.api_keys set
  salt = %(salt)s,
  digest = %(digest)s,
  former_salt = case when %(overlap)s > interval '0' then salt end,
  former_digest = case when %(overlap)s > interval '0' then digest end,
  former_expire_time = case when %(overlap)s > interval '0' then now() + %(overlap)s end
where tenant = %(tenant)s and id = %(id)s
  and revoke_time is null and (expire_time is null or expire_time > now())
returning {_KEY}
"""  # noqa: S608
_REVOKE = f"""
update gateway.api_keys set
  revoke_time = now(), former_salt = null, former_digest = null, former_expire_time = null
where tenant = %(tenant)s and id = %(id)s and revoke_time is null
returning {_KEY}
"""  # noqa: S608


class PostgresKeyRegister:
    """`KeyRegister` made real."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def create(
        self, by: Identity, key: ApiKey, *, name: str, lifetime: timedelta | None, limits: key_pb2.Limits
    ) -> key_pb2.Key:
        scopes = sorted(key.scopes)
        values = {
            "id": key.id,
            "tenant": key.tenant,
            "name": name,
            "scopes": scopes,
            "salt": key.salt,
            "digest": key.digest,
            "lifetime": lifetime,
            **dict.fromkeys(LIMITS),
            **{limit.name: value for limit, value in limits.ListFields()},
        }
        async with change(self._pool, by) as connection:
            await lock_tenant(connection, key.tenant)
            [made] = await _keys(connection, _CREATE, values)
            await log_change(connection, by, key.tenant, "create_key", made.id, name=name, scopes=scopes)
        return made

    async def get(self, tenant: str, key_id: str) -> key_pb2.Key:
        async with connect(self._pool) as connection:
            return await _get(connection, tenant, key_id)

    async def page(self, tenant: str, *, after: str, limit: int) -> list[key_pb2.Key]:
        async with connect(self._pool) as connection:
            return await _keys(connection, _PAGE, {"tenant": tenant, "after": after, "limit": limit})

    async def rotate(self, by: Identity, key_id: str, text: str, *, overlap: timedelta) -> key_pb2.Key:
        salt, digest = seal_text(text)
        values = {"tenant": by.tenant, "id": key_id, "salt": salt, "digest": digest, "overlap": overlap}
        async with change(self._pool, by) as connection:
            rotated = await _keys(connection, _ROTATE, values)
            if not rotated:
                await _get(connection, by.tenant, key_id)
                message = f"the key {key_id} has expired or was revoked: create a new one instead"
                raise FailedPrecondition(message, reason="KEY_ENDED")
            await log_change(
                connection, by, by.tenant, "rotate_key", key_id, overlap_s=overlap.total_seconds()
            )
        return rotated[0]

    async def revoke(self, by: Identity, key_id: str) -> key_pb2.Key:
        async with change(self._pool, by) as connection:
            revoked = await _keys(connection, _REVOKE, {"tenant": by.tenant, "id": key_id})
            if not revoked:
                return await _get(connection, by.tenant, key_id)
            await log_change(connection, by, by.tenant, "revoke_key", key_id)
        return revoked[0]


async def _keys(
    connection: AsyncConnection, statement: str, values: Mapping[str, object]
) -> list[key_pb2.Key]:
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(statement.encode(), values)
    return [_to_key(row) for row in await cursor.fetchall()]


async def _get(connection: AsyncConnection, tenant: str, key_id: str) -> key_pb2.Key:
    found = await _keys(connection, _GET, {"tenant": tenant, "id": key_id})
    if not found:
        raise no_such_key(key_id)
    return found[0]


def _to_key(row: DictRow) -> key_pb2.Key:
    key = key_pb2.Key(
        id=row["id"],
        name=row["name"],
        prefix=row["id"],
        tenant=row["tenant"],
        scopes=row["scopes"],
        limits=key_pb2.Limits(**{limit: row[limit] for limit in LIMITS}),
    )
    for member in ("create_time", "expire_time", "revoke_time"):
        if row[member] is not None:
            getattr(key, member).FromDatetime(row[member])
    return key
