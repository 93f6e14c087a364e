"""What tenants used, summed up from the router's ledger.

`router.ledger` is the one table that two services share: the router alone writes it and owns its schema.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime

import psycopg
from psycopg import sql
from psycopg_pool import PoolTimeout

from quartet.gateway.v1 import key_pb2
from services.kit.errors import Unavailable
from services.kit.postgres import Pool

READ_TIMEOUT_S = 2.0
MAX_ROWS = 1000

_GROUPS = {
    "key": "key_id",
    "route": "route",
    "model": "model",
    "run": "run_id",
    "day": "to_char(time at time zone 'UTC', 'YYYY-MM-DD')",
}
_SUM = """
select array[{groups}]::text[],
  count(*) filter (where cache not in ('exact_hit', 'semantic_hit', 'coalesced')),
  sum(input_tokens)::bigint, sum(output_tokens)::bigint,
  sum(cached_input_tokens)::bigint, sum(cost_micro_usd)::bigint, sum(baseline_micro_usd)::bigint,
  coalesce(sum(cost_micro_usd) filter (where route <> ''), 0)::bigint
from router.ledger where tenant = %s and time >= %s and time < %s
group by 1 order by 6 desc, 1 limit %s
"""


class PostgresUsage:
    """`Usage` made real."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def sum_up(
        self, tenant: str, start: datetime, end: datetime, group_by: Sequence[str]
    ) -> list[key_pb2.UsageRow]:
        """A row per group, dearest first, `MAX_ROWS` at most; raises Unavailable after two seconds."""
        groups = sql.SQL(", ").join(sql.SQL(_GROUPS[name]) for name in group_by)
        statement = sql.SQL(_SUM).format(groups=groups)
        try:
            async with asyncio.timeout(READ_TIMEOUT_S), self._pool.connection() as connection:
                cursor = await connection.execute(statement, (tenant, start, end, MAX_ROWS))
                rows = await cursor.fetchall()
        except (psycopg.OperationalError, PoolTimeout, TimeoutError):
            raise Unavailable(
                "the ledger cannot be read now: try again in a moment, or ask for a shorter time",
                reason="LEDGER_UNAVAILABLE",
                retry_after_s=1.0,
            ) from None
        return [
            key_pb2.UsageRow(
                group=group,
                calls=calls,
                input_tokens=read,
                output_tokens=written,
                cached_input_tokens=cached,
                cost_micro_usd=cost,
                baseline_micro_usd=baseline,
                routed_cost_micro_usd=routed,
            )
            for group, calls, read, written, cached, cost, baseline, routed in rows
        ]
