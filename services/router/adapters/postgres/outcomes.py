"""What people said of answers, and what policies chose, in PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

import psycopg
from psycopg.types.json import Jsonb
from psycopg_pool import PoolTimeout

from quartet.router.v1 import router_pb2 as pb
from services.kit.errors import NotFound, Unavailable
from services.kit.postgres import Pool
from services.router.domain.policy import Bin, Calibration
from services.router.domain.recalibration import Outcome

TIMEOUT_S = 2.0
LEDGER_DELAY_S = (0.0, 0.3, 0.6)
"""Pauses before a trace is looked for: its ledger row is written a moment after the answer."""

_KEEP = """
insert into router.outcomes (tenant, trace_id, score, comment)
select %(tenant)s, %(trace_id)s, %(score)s, %(comment)s
where exists (select from router.ledger where trace_id = %(trace_id)s and tenant = %(tenant)s)
on conflict (tenant, trace_id) do update
  set score = excluded.score, comment = excluded.comment, time = now()
returning true
"""
_COMPARE = """
select route, count(*), count(*) filter (where tier <> shadow),
  sum(case tier when 'cheaper' then cheaper_micro_usd else strong_micro_usd end)::bigint,
  sum(case shadow when 'cheaper' then cheaper_micro_usd else strong_micro_usd end)::bigint
from router.decisions where tenant = %s and time >= %s and time < %s and shadow <> ''
group by route order by route
"""
_UPLIFTS = "select uplift from router.decisions where time >= %s order by time desc limit %s"
_OUTCOMES = """
select d.uplift, d.tier, o.score from router.outcomes o
join router.decisions d on d.tenant = o.tenant and d.trace_id = o.trace_id
where o.time >= %s order by o.time desc limit %s
"""
_NEWEST = "select bins from router.calibrations order by number desc limit 1"
_WRITE = "insert into router.calibrations (outcomes, bins) values (%s, %s)"
MAX_EVIDENCE = 200_000
"""Rows of either kind that one calibration reads, the newest."""


class PostgresOutcomes:
    """Outcomes, comparisons and calibrations; every method raises Unavailable when the database is away."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def keep(self, tenant: str, trace_id: str, score: float, comment: str) -> None:
        """Keeps a word on an answer in place of an earlier one; raises NotFound for an unknown trace."""
        values = {"tenant": tenant, "trace_id": trace_id, "score": score, "comment": comment}
        for pause_s in LEDGER_DELAY_S:
            await asyncio.sleep(pause_s)
            async with self._connection() as connection:
                cursor = await connection.execute(_KEEP, values)
                if await cursor.fetchone():
                    return
        raise NotFound(
            f"no answer has the trace {trace_id}: send the `x-quartet-trace-id` of one of yours",
            reason="TRACE_NOT_FOUND",
            metadata={"trace_id": trace_id},
        )

    async def compare(self, tenant: str, start: datetime, end: datetime) -> list[pb.PolicyComparison]:
        """A row per route with a shadow policy."""
        async with self._connection() as connection:
            cursor = await connection.execute(_COMPARE, (tenant, start, end))
            return [
                pb.PolicyComparison(
                    route=route,
                    decisions=decisions,
                    disagreements=disagreements,
                    live_micro_usd=live,
                    shadow_micro_usd=shadow,
                )
                for route, decisions, disagreements, live, shadow in await cursor.fetchall()
            ]

    async def read_evidence(self, start: datetime) -> tuple[list[float], list[Outcome]]:
        """The uplifts of all decisions since, and the outcomes with theirs; of every tenant."""
        async with self._connection() as connection:
            uplifts = await (await connection.execute(_UPLIFTS, (start, MAX_EVIDENCE))).fetchall()
            outcomes = await (await connection.execute(_OUTCOMES, (start, MAX_EVIDENCE))).fetchall()
        return (
            [uplift for (uplift,) in uplifts],
            [Outcome(uplift=uplift, tier=tier, score=score) for uplift, tier, score in outcomes],
        )

    async def newest(self) -> Calibration | None:
        """The calibration written last; None while there is none."""
        async with self._connection() as connection:
            row = await (await connection.execute(_NEWEST)).fetchone()
        return None if row is None else Calibration([Bin(**part) for part in row[0]])

    async def write(self, calibration: Calibration, outcomes: int) -> None:
        """Makes a calibration the newest; `outcomes` tells how many it heeds."""
        bins = [
            {"least_uplift": part.least_uplift, "mass": part.mass, "weak": part.weak, "strong": part.strong}
            for part in calibration.bins
        ]
        async with self._connection() as connection:
            await connection.execute(_WRITE, (outcomes, Jsonb(bins)))

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[psycopg.AsyncConnection]:
        try:
            async with asyncio.timeout(TIMEOUT_S), self._pool.connection() as connection:
                yield connection
        except (psycopg.OperationalError, PoolTimeout, TimeoutError):
            raise Unavailable(
                "outcomes and decisions cannot be reached now: try again in a moment",
                reason="OUTCOMES_UNAVAILABLE",
                retry_after_s=1.0,
            ) from None
