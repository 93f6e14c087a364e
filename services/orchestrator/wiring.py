import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from quartet.orchestrator.v1 import orchestrator_pb2 as _orchestrator  # noqa: F401 - registers the contract
from quartet.pipeline.v1 import pipeline_pb2 as _pipeline  # noqa: F401 - as above
from quartet.router.v1 import router_pb2 as _router  # noqa: F401 - as above
from services.kit.accounts.store import Accounts
from services.kit.binding import Binding
from services.kit.client import local, remote
from services.kit.redis_client import open_redis
from services.kit.settings import SettingsError
from services.kit.tasks import end
from services.orchestrator.adapters.dbos.engine import DbosExecutor
from services.orchestrator.adapters.dbos.takeover import Takeover
from services.orchestrator.adapters.postgres.executors import PostgresExecutors
from services.orchestrator.adapters.postgres.runs import PostgresRuns, open_pool
from services.orchestrator.adapters.postgres.signals import PostgresSignals
from services.orchestrator.adapters.redis.deltas import NoDeltas, RedisDeltas
from services.orchestrator.domain.acting import Actor
from services.orchestrator.domain.course import Course
from services.orchestrator.domain.planning import Planning
from services.orchestrator.domain.removal import Removal
from services.orchestrator.domain.watch import Watch
from services.orchestrator.ports import Deltas
from services.orchestrator.service import OrchestratorService
from services.orchestrator.settings import Settings

ORCHESTRATOR = "quartet.orchestrator.v1.OrchestratorService"
PIPELINE = "quartet.pipeline.v1.PipelineService"
ROUTER = "quartet.router.v1.RouterService"


@asynccontextmanager
async def build(
    settings: Settings, peers: Mapping[str, object] | None = None
) -> AsyncIterator[list[Binding]]:
    """The orchestrator with its adapters, ready to be served; left, its runs go on at the next start.

    Args:
        settings: From the environment.
        peers: Services of the same process by their full names; the others are called at their addresses.
    """
    if not settings.database_url:
        raise SettingsError("DATABASE_URL: not set; the orchestrator keeps its runs there")
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(
            open_pool(settings.database_url, max_size=settings.pool_size, timeout_s=settings.pool_timeout_s)
        )
        router = _peer(ROUTER, settings.router_address, peers or {}, stack)
        pipeline = _peer(PIPELINE, settings.pipeline_address, peers or {}, stack)
        deltas = _deltas(settings, stack)
        runs = PostgresRuns(pool, max_runs_per_tenant=settings.max_runs_per_tenant)
        signals = PostgresSignals(settings.database_url)
        course = Course(
            Planning(router, default=settings.planner), Actor(router, pipeline, deltas), runs, signals
        )
        _run_beside(stack, signals.listen())
        executor = await stack.enter_async_context(
            DbosExecutor(
                settings.database_url,
                course,
                runs,
                await _accounts(settings, stack),
                executor=settings.executor_id,
                max_runs=settings.max_runs,
            )
        )
        takeover = Takeover(
            PostgresExecutors(pool, settings.executor_id),
            executor,
            interval_s=settings.heartbeat_s,
            silent_after_s=settings.silent_after_s,
        )
        await takeover.begin()
        _run_beside(stack, takeover.keep())
        service = OrchestratorService(
            runs,
            executor,
            Watch(runs, signals, deltas),
            Removal(runs, executor),
            run_timeout_s=settings.run_timeout_s,
        )
        yield [Binding(ORCHESTRATOR, service)]


def _peer(name: str, address: str, peers: Mapping[str, object], stack: AsyncExitStack) -> Any:
    if name in peers:
        return local(name, peers[name])
    client = remote(name, address)
    stack.push_async_callback(client.close)
    return client


async def _accounts(settings: Settings, stack: AsyncExitStack) -> Accounts | None:
    if not settings.redis_url:
        return None
    accounts = Accounts(settings.redis_url, ttl_s=settings.account_ttl_s)
    stack.push_async_callback(accounts.shut)
    await accounts.start()
    return accounts


def _deltas(settings: Settings, stack: AsyncExitStack) -> Deltas:
    if not settings.redis_url:
        return NoDeltas()
    timeout_s = settings.redis_timeout_s
    redis = open_redis(settings.redis_url, connect_timeout_s=timeout_s)
    stack.push_async_callback(redis.aclose)
    return RedisDeltas(redis, timeout_s=timeout_s)


def _run_beside(stack: AsyncExitStack, work: Coroutine[Any, Any, None]) -> None:
    """Owns a task that runs until the stack is left."""
    stack.push_async_callback(end, asyncio.create_task(work))
