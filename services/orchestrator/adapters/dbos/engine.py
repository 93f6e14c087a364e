"""Runs as DBOS workflows: each move is a step whose outcome is kept in Postgres before the next begins."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

from dbos import DBOS, DBOSConfig, SetWorkflowID
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan
from psycopg import OperationalError
from psycopg_pool import PoolTimeout

from quartet.common.v1 import generation_pb2, run_pb2
from services.kit import names, telemetry
from services.kit.errors import Internal, ResourceExhausted
from services.kit.postgres import spell_out_hosts
from services.kit.tasks import end
from services.kit.tracing import extract
from services.orchestrator.domain.course import AGENT, Course
from services.orchestrator.ports import Accounts, Charge, Journal, Outcome

log = logging.getLogger(__name__)

APPLICATION_VERSION = "orchestrator-1"
"""Raised only when the order of a workflow's steps changes: runs go on under the version that began them."""
SCHEMA = "orchestrator_dbos"
POOL_SIZE = 5
MAX_THREADS = 16
RETRY_AFTER_S = 5.0
STEP_ATTEMPTS = 6
TAKE_ATTEMPTS = 20
MAX_PAUSE_S = 10
STOP_TIMEOUT_S = 5
FORGET_LOOKS, FORGET_PAUSE_S = 50, 0.1
ENDED = {"SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"}


class DbosExecutor:
    """Carries runs out in this process; entered it recovers those that it had when it ended last.

    There is one in a process, since there is one DBOS in a process.
    """

    def __init__(
        self,
        database_url: str,
        course: Course,
        journal: Journal,
        accounts: Accounts | None,
        *,
        executor: str,
        max_runs: int,
    ) -> None:
        self.id = executor
        self._course = course
        self._journal = journal
        self._accounts = accounts
        self._max_runs = max_runs
        self._runs: set[str] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._steps = _Steps()
        self._config: DBOSConfig = {
            "name": "quartet-orchestrator",
            "system_database_url": spell_out_hosts(database_url),
            "dbos_system_schema": SCHEMA,
            "sys_db_pool_size": POOL_SIZE,
            "max_executor_threads": MAX_THREADS,
            "application_version": APPLICATION_VERSION,
            "executor_id": executor,
            "log_level": "WARNING",
            "run_migrations": False,  # `quartet migrate` does
            "enable_otlp": False,
        }

    async def __aenter__(self) -> Self:
        # With a handler of ours DBOS adds none, and its lines go the way of all others.
        logging.getLogger("dbos").addHandler(logging.NullHandler())
        DBOS(config=self._config)

        @DBOS.workflow(name="quartet.orchestrator.run")
        async def workflow(run_id: str) -> None:
            await self._carry_out(run_id)

        self._workflow = workflow
        # On this thread and not in another: recovered runs then share this loop. Nothing is served yet.
        DBOS.launch()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._steps.stop()
        if self._tasks:
            # Not cancelled at once: DBOS's own writes must end, or their threads outlive it.
            await asyncio.wait(self._tasks, timeout=STOP_TIMEOUT_S)
        await end(*self._tasks)
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as thread:
            await loop.run_in_executor(thread, lambda: DBOS.destroy(destroy_registry=True))
        # DBOS made its own threads, which are gone now, the loop's default.
        loop.set_default_executor(ThreadPoolExecutor())

    def reserve(self, run_id: str) -> None:
        if len(self._runs) >= self._max_runs:
            raise ResourceExhausted(
                f"{len(self._runs)} runs are under way in this process, and no more may be: try again soon",
                reason="TOO_MANY_RUNS",
                metadata={"limit": str(self._max_runs)},
                retry_after_s=RETRY_AFTER_S,
            )
        self._runs.add(run_id)

    def release(self, run_id: str) -> None:
        self._runs.discard(run_id)

    def carries_out(self, run_id: str) -> bool:
        """True for a run that is under way or about to begin here."""
        return run_id in self._runs

    async def start(self, run_id: str) -> None:
        with SetWorkflowID(run_id):
            await DBOS.start_workflow_async(self._workflow, run_id)

    async def forget(self, run_ids: Sequence[str]) -> None:
        ids = list(run_ids)
        # A run has ended a moment before DBOS has written that its last step did.
        for _ in range(FORGET_LOOKS):
            if not await DBOS.list_workflows_async(workflow_ids=ids, status=["PENDING"], load_output=False):
                break
            await asyncio.sleep(FORGET_PAUSE_S)
        await DBOS.delete_workflows_async(ids)

    async def adopt(self, run_id: str) -> None:
        """Goes on with a run that a process left, or begins it; its own DBOS recovers itself."""
        status = await DBOS.get_workflow_status_async(run_id)
        if status is None:
            await self.start(run_id)
        elif status.status in ENDED:
            await self._give_up(run_id)
        elif status.executor_id != self.id:
            await DBOS.resume_workflow_async(run_id)

    async def _carry_out(self, run_id: str) -> None:
        self._runs.add(run_id)
        if task := asyncio.current_task():
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            await self._follow(run_id)
        finally:
            self._runs.discard(run_id)

    async def _follow(self, run_id: str) -> None:
        charge = await self._take(run_id)
        attributes = {
            names.GEN_AI_OPERATION: names.INVOKE_AGENT,
            names.GEN_AI_AGENT_NAME: AGENT,
            names.RUN_ID: run_id,
        }
        with telemetry.tracer().start_as_current_span(
            f"{names.INVOKE_AGENT} {AGENT}", _parent(charge), attributes=attributes
        ):
            async with self._holding(charge):
                try:
                    await self._course.follow(charge, self._steps)
                except Exception:  # the outermost layer of a run: no caller is left to tell
                    log.exception("run %s cannot go on", run_id)
                    await self._give_up(run_id)

    @asynccontextmanager
    async def _holding(self, charge: Charge) -> AsyncIterator[None]:
        """Keeps the run's account while the run is carried out here, and closes it when the run has ended."""
        account = charge.run.task.budget.account_id
        if not account or self._accounts is None:
            yield
            return
        self._accounts.hold(charge.tenant, account)
        try:
            yield
        except BaseException:
            # The run goes on elsewhere, or at the next start, with the account it has.
            self._accounts.release(account)
            raise
        if self._steps.is_stopping:
            self._accounts.release(account)
        else:
            self._accounts.close(charge.tenant, account)

    async def _take(self, run_id: str) -> Charge:
        """The run; a database that is away is waited for, as DBOS itself does."""
        for attempt in range(TAKE_ATTEMPTS):
            try:
                return await self._journal.take(run_id, self.id)
            except (OperationalError, PoolTimeout) as error:
                log.warning("cannot read run %s: %s", run_id, error)
                await asyncio.sleep(min(MAX_PAUSE_S, 2**attempt))
        return await self._journal.take(run_id, self.id)

    async def _give_up(self, run_id: str) -> None:
        charge = await self._take(run_id)
        if not charge.run.HasField("end_time"):
            fault = Internal(
                "the run met an internal fault and cannot go on: start it again, and report its id"
            )
            await self._course.fail(charge, fault)


class _Steps:
    """The durable steps of this process's workflows; stopped, they leave off where nothing is written."""

    def __init__(self) -> None:
        self.is_stopping = False
        self._bodies: set[asyncio.Future[Outcome]] = set()

    def stop(self) -> None:
        """Cancels the steps under way and those that would begin: they are done at the next start."""
        self.is_stopping = True
        for body in self._bodies:
            body.cancel()

    async def step(self, name: str, body: Callable[[], Awaitable[Outcome]]) -> Outcome:
        async def kept() -> tuple[bytes, bytes]:
            if self.is_stopping:
                raise asyncio.CancelledError
            making = asyncio.ensure_future(body())
            self._bodies.add(making)
            try:
                outcome = await making
            finally:
                self._bodies.discard(making)
                await end(making)
            return outcome.event.SerializeToString(), outcome.completion.SerializeToString()

        event, completion = await DBOS.run_step_async(
            {
                "name": name,
                "retries_allowed": True,
                "max_attempts": STEP_ATTEMPTS,
                "should_retry": lambda error: isinstance(error, OperationalError | PoolTimeout),
            },
            kept,
        )
        return Outcome(
            event=run_pb2.RunEvent.FromString(event),
            completion=generation_pb2.Completion.FromString(completion),
        )


def _parent(charge: Charge) -> Context | None:
    parent = extract({names.TRACEPARENT: charge.traceparent})
    return trace.set_span_in_context(NonRecordingSpan(parent)) if parent else Context()
