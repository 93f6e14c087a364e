"""The heartbeats of the processes that carry runs out, and the runs of those that fell silent."""

from services.kit.postgres import Pool
from services.orchestrator.adapters.postgres.runs import UNDER_WAY


class PostgresExecutors:
    """A row for each process, renewed while it lives."""

    def __init__(self, pool: Pool, executor: str) -> None:
        self._pool = pool
        self._executor = executor

    async def beat(self) -> None:
        """Says that this process lives."""
        async with self._pool.connection() as connection:
            await connection.execute(
                "insert into orchestrator.executors (id) values (%s) "
                "on conflict (id) do update set seen_at = now()",
                (self._executor,),
            )

    async def own_runs(self, limit: int) -> list[str]:
        """Runs that this process had under way when it ended last."""
        async with self._pool.connection() as connection:
            found = await connection.execute(
                "select id from orchestrator.runs where executor = %s and state = any(%s) "
                "order by created_at limit %s",
                (self._executor, UNDER_WAY, limit),
            )
            return [run_id for (run_id,) in await found.fetchall()]

    async def take_over(self, *, silent_after_s: float, limit: int) -> list[str]:
        """Makes runs of silent processes this one's, each by one taker; forgets processes without runs."""
        async with self._pool.connection() as connection, connection.transaction():
            found = await connection.execute(
                "update orchestrator.runs set executor = %(own)s where id in ("
                "select r.id from orchestrator.runs r "
                "left join orchestrator.executors e on e.id = r.executor "
                "where r.state = any(%(states)s) and r.executor <> %(own)s "
                "and coalesce(e.seen_at, r.created_at) < now() - make_interval(secs => %(silent)s) "
                "order by r.created_at limit %(limit)s for update of r skip locked) returning id",
                {"own": self._executor, "states": UNDER_WAY, "silent": silent_after_s, "limit": limit},
            )
            taken = [run_id for (run_id,) in await found.fetchall()]
            await connection.execute(
                "delete from orchestrator.executors e "
                "where seen_at < now() - make_interval(secs => %s) and not exists "
                "(select from orchestrator.runs r where r.executor = e.id and r.state = any(%s))",
                (10 * silent_after_s, UNDER_WAY),
            )
        return taken
