from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self

from dbos import DBOS, DBOSConfig, SetWorkflowID

from services.kit.errors import Unavailable
from services.kit.postgres import spell_out_hosts
from services.kit.tasks import end

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from services.pipeline.domain.ingestion import Ingestion
    from services.pipeline.ports import ItemStore, JobStore

SCHEMA = "pipeline_dbos"
WORKFLOW_VERSION = "ingest-1"
"""Raised only when the workflow's shape changes: a run is taken up again by its own version alone."""
POOL_CONNECTIONS = 4
MAX_THREADS = 16
MAX_DOCUMENTS_AT_A_TIME = 2
STEP_ATTEMPTS = 15
FIRST_PAUSE_S = 0.1
"""Doubled from try to try: the database may be away for nearly half an hour."""
ENDED = {"SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"}

log = logging.getLogger(__name__)


class DurableJobs:
    """Runs ingest jobs as DBOS workflows, which go on after a crash where they stood.

    A document that was under way is begun again; its item's state keeps it from being counted twice. There is
    one of these in a process, since there is one DBOS in a process.

    Args:
        executor_id: Names this replica; the same after a restart, so that it takes up its own jobs again.
    """

    def __init__(
        self,
        database_url: str,
        *,
        executor_id: str,
        ingestion: Ingestion,
        jobs: JobStore,
        items: ItemStore,
    ) -> None:
        self._ingestion = ingestion
        self._jobs = jobs
        self._items = items
        self._room = asyncio.Semaphore(MAX_DOCUMENTS_AT_A_TIME)
        self._tasks: set[asyncio.Task[object]] = set()
        self._config = DBOSConfig(
            name="quartet-pipeline",
            system_database_url=spell_out_hosts(database_url),
            dbos_system_schema=SCHEMA,
            application_version=WORKFLOW_VERSION,
            executor_id=executor_id,
            sys_db_pool_size=POOL_CONNECTIONS,
            max_executor_threads=MAX_THREADS,
            run_migrations=False,  # `quartet migrate` does
            enable_otlp=False,
            log_level="WARNING",
        )

    async def __aenter__(self) -> Self:
        # With a handler of ours DBOS adds none, and its lines go the way of all others.
        logging.getLogger("dbos").addHandler(logging.NullHandler())
        DBOS(config=self._config)

        # A function, since DBOS marks what it registers, which a bound method does not allow.
        @DBOS.workflow(name="quartet.pipeline.ingest")
        async def workflow(job_id: str) -> None:
            await self._carry_out(job_id)

        self._workflow = workflow
        # On this thread, because DBOS runs what it recovers on the loop that it is launched from.
        DBOS.launch()
        # Jobs that were kept by a process that ended before it could start them.
        for job_id in await self._jobs.unended():
            await self._take_up(job_id)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await end(*self._tasks)
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as thread:
            await loop.run_in_executor(thread, lambda: DBOS.destroy(destroy_registry=True))
        # DBOS made its own threads, which are gone now, the loop's default.
        loop.set_default_executor(ThreadPoolExecutor())

    async def start(self, job_id: str) -> None:
        """Starts a job under its own id, under which there is one run for ever."""
        with SetWorkflowID(job_id):
            await DBOS.start_workflow_async(self._workflow, job_id)

    async def _take_up(self, job_id: str) -> None:
        """Starts a job that has not ended; anew where its run broke off, since an ended run never goes on."""
        status = await DBOS.get_workflow_status_async(job_id)
        if status is not None and status.status in ENDED:
            await DBOS.delete_workflows_async([job_id])
        await self.start(job_id)

    async def _carry_out(self, job_id: str) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        positions: list[int] = await self._step("begin", self._items.begin, job_id)
        for position in positions:
            await self._step("ingest", self._ingest, job_id, position)
        await self._step("end", self._items.end, job_id)

    async def _step(self, name: str, body: Callable[..., Awaitable[Any]], *arguments: object) -> Any:
        """A durable step; a database that is away is waited for, as DBOS itself does."""
        return await DBOS.run_step_async(
            {
                "name": name,
                "retries_allowed": True,
                "interval_seconds": FIRST_PAUSE_S,
                "max_attempts": STEP_ATTEMPTS,
                "should_retry": lambda error: isinstance(error, Unavailable),
            },
            body,
            *arguments,
        )

    async def _ingest(self, job_id: str, position: int) -> None:
        async with self._room:
            try:
                await self._ingestion.ingest(job_id, position)
            except Unavailable:
                raise
            except Exception:  # the outermost layer of a document: no caller is left to tell
                log.exception("document %d of the ingest job %s cannot be taken in", position, job_id)
                await self._ingestion.give_up(job_id, position)
