"""Runs and their events in Postgres; events are numbered by the run itself, and written once."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg import AsyncConnection, OperationalError
from psycopg_pool import PoolTimeout

from quartet.common.v1 import generation_pb2, run_pb2
from services.kit.errors import NotFound, ResourceExhausted, Unavailable
from services.kit.postgres import Pool
from services.orchestrator.domain.course import now
from services.orchestrator.ports import Charge, Outcome

CHANNEL = "orchestrator_runs"
UNDER_WAY = [run_pb2.RUN_STATE_PENDING, run_pb2.RUN_STATE_RUNNING, run_pb2.RUN_STATE_WAITING]
RETRY_AFTER_S = 5.0


@asynccontextmanager
async def open_pool(database_url: str, *, max_size: int, timeout_s: float) -> AsyncIterator[Pool]:
    """A pool of connections in autocommit; waiting for one takes `timeout_s` at most."""
    pool = Pool(
        database_url,
        min_size=1,
        max_size=max_size,
        timeout=timeout_s,
        kwargs={"autocommit": True},
        open=False,
    )
    async with pool:
        yield pool


class PostgresRuns:
    """The store of runs, as the service and as their carrying out see it.

    Where the database is away, callers of the service get Unavailable; the carrying out gets psycopg's own
    errors, at which the engine waits.
    """

    def __init__(self, pool: Pool, *, max_runs_per_tenant: int) -> None:
        self._pool = pool
        self._max_runs_per_tenant = max_runs_per_tenant

    async def create(
        self, charge: Charge, *, idempotency_key: str, joins: timedelta | None, executor: str
    ) -> tuple[run_pb2.Run, bool]:
        run = charge.run
        key = idempotency_key or None
        event = run_pb2.RunEvent(number=1, time=now(), started=run_pb2.RunStarted(task=run.task))
        async with self._connection() as connection, connection.transaction():
            # One at a time for each tenant, so that the count below holds.
            await connection.execute(
                "select pg_advisory_xact_lock(hashtextextended('orchestrator/' || %s, 0))", (charge.tenant,)
            )
            if key is not None:
                found = await connection.execute(
                    "select run, state, last_event_number from orchestrator.runs "
                    "where tenant = %s and idempotency_key = %s",
                    (charge.tenant, key),
                )
                if row := await found.fetchone():
                    first = _run(row)
                    if joins is None or _is_joined(first, joins):
                        return first, False
                    await connection.execute(
                        "update orchestrator.runs set idempotency_key = null where id = %s", (first.id,)
                    )
            await self._raise_if_full(connection, charge.tenant)
            await connection.execute(
                "insert into orchestrator.runs (id, tenant, key_id, idempotency_key, state, run, "
                "last_event_number, executor, deadline, traceparent, created_at, collection, models) "
                "values (%s, %s, %s, %s, %s, %s, 1, %s, %s, %s, %s, %s, %s)",
                (
                    *(run.id, charge.tenant, charge.key_id, key, run.state, run.SerializeToString()),
                    *(executor, charge.deadline, charge.traceparent, created_at(run)),
                    run.task.collection,
                    None if charge.models is None else list(charge.models),
                ),
            )
            await _insert(connection, run.id, 1, Outcome(event=event))
        return run, True

    async def get(self, tenant: str, run_id: str) -> run_pb2.Run:
        async with self._connection() as connection:
            found = await connection.execute(
                "select run, state, last_event_number from orchestrator.runs where id = %s and tenant = %s",
                (run_id, tenant),
            )
            row = await found.fetchone()
        if row is None:
            raise _unknown(run_id)
        return _run(row)

    async def page(
        self,
        tenant: str,
        *,
        state: run_pb2.RunState.ValueType,
        collections: Sequence[str] | None,
        limit: int,
        after: tuple[datetime, str] | None,
    ) -> list[run_pb2.Run]:
        time, run_id = after or (None, None)
        async with self._connection() as connection:
            found = await connection.execute(
                "select run, state, last_event_number from orchestrator.runs where tenant = %(tenant)s "
                "and (%(state)s = 0 or state = %(state)s) "
                "and (%(collections)s::text[] is null or collection = any(%(collections)s)) "
                "and (%(time)s::timestamptz is null or (created_at, id) < (%(time)s::timestamptz, %(id)s)) "
                "order by created_at desc, id desc limit %(limit)s",
                {
                    "tenant": tenant,
                    "state": state,
                    "collections": None if collections is None else list(collections),
                    "time": time,
                    "id": run_id,
                    "limit": limit,
                },
            )
            runs = [_run(row) for row in await found.fetchall()]
        for run in runs:
            run.ClearField("completion")
        return runs

    async def events(self, run_id: str, *, first: int, limit: int) -> list[run_pb2.RunEvent]:
        async with self._connection() as connection:
            found = await connection.execute(
                "select event from orchestrator.run_events where run_id = %s and n >= %s order by n limit %s",
                (run_id, first, limit),
            )
            return [run_pb2.RunEvent.FromString(event) for (event,) in await found.fetchall()]

    async def request_cancel(self, tenant: str, run_id: str) -> run_pb2.Run:
        async with self._connection() as connection, connection.transaction():
            await connection.execute(
                "update orchestrator.runs set cancel_requested = true "
                "where id = %s and tenant = %s and state = any(%s)",
                (run_id, tenant, UNDER_WAY),
            )
            await connection.execute("select pg_notify(%s, %s)", (CHANNEL, run_id))
        return await self.get(tenant, run_id)

    async def cancel_all(self, tenant: str) -> int:
        async with self._connection() as connection, connection.transaction():
            found = await connection.execute(
                "update orchestrator.runs set cancel_requested = true where tenant = %s and state = any(%s) "
                "returning pg_notify(%s, id)",
                (tenant, UNDER_WAY, CHANNEL),
            )
            return found.rowcount

    async def ended(self, tenant: str, *, limit: int) -> list[str]:
        async with self._connection() as connection:
            found = await connection.execute(
                "select id from orchestrator.runs where tenant = %s and state <> all(%s) limit %s",
                (tenant, UNDER_WAY, limit),
            )
            return [run_id for (run_id,) in await found.fetchall()]

    async def delete(self, run_ids: Sequence[str]) -> None:
        async with self._connection() as connection:
            await connection.execute("delete from orchestrator.runs where id = any(%s)", (list(run_ids),))

    async def take(self, run_id: str, executor: str) -> Charge:
        async with self._pool.connection() as connection:
            found = await connection.execute(
                "update orchestrator.runs set executor = %s where id = %s "
                "returning run, state, last_event_number, tenant, key_id, deadline, traceparent, models",
                (executor, run_id),
            )
            row = await found.fetchone()
        if row is None:
            raise _unknown(run_id)
        tenant, key_id, deadline, traceparent, models = row[3:]
        return Charge(
            run=_run(row),
            tenant=tenant,
            key_id=key_id,
            deadline=deadline,
            traceparent=traceparent,
            models=None if models is None else tuple(models),
        )

    async def recorded(self, run_id: str, number: int) -> Outcome | None:
        async with self._pool.connection() as connection:
            return await _recorded(connection, run_id, number)

    async def record(self, run: run_pb2.Run, number: int, outcome: Outcome) -> Outcome:
        async with self._pool.connection() as connection, connection.transaction():
            if not await _insert(connection, run.id, number, outcome):
                return await _recorded(connection, run.id, number) or outcome
            await connection.execute(
                "update orchestrator.runs set run = %s, state = %s, last_event_number = %s where id = %s",
                (run.SerializeToString(), run.state, number, run.id),
            )
        return outcome

    async def is_cancelled(self, run_id: str) -> bool:
        async with self._pool.connection() as connection:
            found = await connection.execute(
                "select cancel_requested from orchestrator.runs where id = %s", (run_id,)
            )
            row = await found.fetchone()
        return row is not None and bool(row[0])

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection[Any]]:
        try:
            async with self._pool.connection() as connection:
                yield connection
        except (OperationalError, PoolTimeout) as error:
            raise Unavailable(
                "the database of runs cannot be reached now: try again in a moment",
                reason="DATABASE_UNREACHABLE",
                retry_after_s=1.0,
            ) from error

    async def _raise_if_full(self, connection: AsyncConnection[Any], tenant: str) -> None:
        found = await connection.execute(
            "select count(*) from orchestrator.runs where tenant = %s and state = any(%s)",
            (tenant, UNDER_WAY),
        )
        (count,) = await found.fetchone() or (0,)
        if count >= self._max_runs_per_tenant:
            raise ResourceExhausted(
                f"{count} runs of this tenant are under way, and {self._max_runs_per_tenant} may be: "
                "wait for one to end, or cancel one",
                reason="TOO_MANY_RUNS",
                metadata={"limit": str(self._max_runs_per_tenant), "count": str(count)},
                retry_after_s=RETRY_AFTER_S,
            )


def created_at(run: run_pb2.Run) -> datetime:
    """When a run was made, as Postgres keeps it: in microseconds, with its zone."""
    return run.create_time.ToDatetime(tzinfo=UTC)


def _is_joined(run: run_pb2.Run, age: timedelta) -> bool:
    """Whether who asks again is served by this run."""
    return (run.state in UNDER_WAY or run.HasField("completion")) and datetime.now(UTC) - created_at(
        run
    ) < age


async def _insert(connection: AsyncConnection[Any], run_id: str, number: int, outcome: Outcome) -> bool:
    """Writes an event and wakes those who wait for it; False when it was there."""
    inserted = await connection.execute(
        "insert into orchestrator.run_events (run_id, n, event, completion) values (%s, %s, %s, %s) "
        "on conflict do nothing",
        (run_id, number, outcome.event.SerializeToString(), outcome.completion.SerializeToString()),
    )
    if inserted.rowcount == 0:
        return False
    await connection.execute("select pg_notify(%s, %s)", (CHANNEL, run_id))
    return True


async def _recorded(connection: AsyncConnection[Any], run_id: str, number: int) -> Outcome | None:
    found = await connection.execute(
        "select event, completion from orchestrator.run_events where run_id = %s and n = %s", (run_id, number)
    )
    row = await found.fetchone()
    if row is None:
        return None
    return Outcome(
        event=run_pb2.RunEvent.FromString(row[0]), completion=generation_pb2.Completion.FromString(row[1])
    )


def _run(row: tuple[Any, ...]) -> run_pb2.Run:
    run = run_pb2.Run.FromString(row[0])
    run.state, run.last_event_number = row[1], row[2]
    return run


def _unknown(run_id: str) -> NotFound:
    return NotFound(f"there is no run {run_id}: list the runs to see those there are", reason="RUN_NOT_FOUND")
