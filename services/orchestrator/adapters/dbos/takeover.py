"""Keeps this process's heartbeat, and takes over the runs of processes that fell silent."""

import asyncio
import logging

import psycopg
from dbos import error as dbos_error
from psycopg_pool import PoolTimeout

from services.kit.errors import QuartetError
from services.orchestrator.adapters.dbos.engine import DbosExecutor
from services.orchestrator.adapters.postgres.executors import PostgresExecutors

log = logging.getLogger(__name__)

MAX_ADOPTED_AT_ONCE = 10
MAX_OWN_RUNS = 1000


class Takeover:
    """A heartbeat every `interval_s`; a process is silent after `silent_after_s` without one."""

    def __init__(
        self,
        executors: PostgresExecutors,
        executor: DbosExecutor,
        *,
        interval_s: float,
        silent_after_s: float,
    ) -> None:
        self._executors = executors
        self._executor = executor
        self._interval_s = interval_s
        self._silent_after_s = silent_after_s

    async def begin(self) -> None:
        """The first heartbeat, and the runs that this process stored and never began when it ended."""
        await self._executors.beat()
        await self._begin_stored()

    async def keep(self) -> None:
        """Runs for as long as the process does; a database that is away is waited for."""
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                await self._executors.beat()
                await self._begin_stored()
                taken = await self._executors.take_over(
                    silent_after_s=self._silent_after_s, limit=MAX_ADOPTED_AT_ONCE
                )
                for run_id in taken:
                    log.warning("taking over run %s from a process that fell silent", run_id)
                    await self._adopt(run_id)
            except (psycopg.OperationalError, PoolTimeout) as error:
                log.warning("cannot keep the heartbeat: %s", error)

    async def _begin_stored(self) -> None:
        """A caller that goes away at the wrong moment leaves a run stored and not begun."""
        for run_id in await self._executors.own_runs(MAX_OWN_RUNS):
            if not self._executor.carries_out(run_id):
                await self._adopt(run_id)

    async def _adopt(self, run_id: str) -> None:
        """One run that cannot go on, such as one that is gone meanwhile, must not cost the heartbeat."""
        try:
            await self._executor.adopt(run_id)
        except (QuartetError, dbos_error.DBOSException) as error:
            log.error("run %s cannot be gone on with: %s", run_id, error)
