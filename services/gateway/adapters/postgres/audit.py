"""The audit log, as key holders and operators read it."""

import json
from datetime import timedelta
from typing import Any

from quartet.gateway.v1 import key_pb2
from services.gateway.adapters.postgres.keys import connect
from services.kit.postgres import Pool

# An id may be taken again: what its former tenant did is for operators alone.
_PAGE = """
select number, time, tenant, key_id, action, subject, details from gateway.audit_log
where (%(tenant)s::text is null or (
    tenant = %(tenant)s and time >= (select create_time from gateway.tenants where id = %(tenant)s)
  ))
  and (%(action)s = '' or action = %(action)s)
  and (%(subject)s = '' or subject = %(subject)s)
  and (%(before)s::bigint is null or number < %(before)s)
order by number desc limit %(limit)s
"""
_PRUNE = """
delete from gateway.audit_log where number in (
  select number from gateway.audit_log where time < now() - %s::interval order by number limit %s
)
"""
BATCH = 5000
"""Entries that one statement removes."""


class PostgresAudit:
    """`Audit` made real."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def page(
        self, tenant: str | None, *, action: str, subject: str, before: int | None, limit: int
    ) -> list[tuple[int, key_pb2.AuditEntry]]:
        values = {
            "tenant": tenant,
            "action": action,
            "subject": subject,
            "before": before,
            "limit": limit,
        }
        async with connect(self._pool) as connection:
            cursor = await connection.execute(_PAGE, values)
            return [(row[0], _to_entry(*row[1:])) for row in await cursor.fetchall()]

    async def prune(self, age: timedelta) -> None:
        """Removes the entries that are older; raises Unavailable when the database is away."""
        removed = BATCH
        while removed == BATCH:
            async with connect(self._pool) as connection:
                removed = (await connection.execute(_PRUNE, (age, BATCH))).rowcount


def _to_entry(
    time: Any, tenant: str, key_id: str, action: str, subject: str, details: object
) -> key_pb2.AuditEntry:
    entry = key_pb2.AuditEntry(
        tenant=tenant, key_id=key_id, action=action, subject=subject, details=json.dumps(details)
    )
    entry.time.FromDatetime(time)
    return entry
