"""The end of a tenant's data at each service's own door, in a real PostgreSQL."""

from typing import Any

import psycopg
import pytest

from quartet.common.v1 import message_pb2, run_pb2
from quartet.orchestrator.v1 import orchestrator_pb2
from quartet.pipeline.v1 import pipeline_pb2
from quartet.router.v1 import router_pb2
from services.kit.call import Call
from services.kit.errors import Unavailable
from services.kit.testing import client_of
from services.orchestrator.adapters.postgres.runs import PostgresRuns, open_pool
from services.orchestrator.domain.removal import Removal
from services.orchestrator.settings import Settings
from services.orchestrator.wiring import ORCHESTRATOR, PIPELINE, ROUTER, build
from services.router.settings import Settings as RouterSettings
from services.router.wiring import build as build_router
from tests.contract.orchestrator.peers import QuotingRouter, WordPipeline
from tests.doubles.pipeline import MOON, SUN, ingest, pipeline_service
from tests.doubles.router import FakeRouter

LEDGER = """
insert into router.ledger (call_id, tenant, key_id, route, model, run_id, time, cost_micro_usd,
  operation, provider, trace_id, cache, status, estimated, duration_us,
  input_tokens, output_tokens, cached_input_tokens, cache_write_tokens, reasoning_tokens)
select tenant || n, tenant, 'k', '', 'm', '', now(), 1, 'chat', 'p', '', '', 'OK', false, 1, 1, 1, 0, 0, 0
from unnest(array['acme', 'other']) tenant, generate_series(1, 12000) n
"""
QUESTIONS = """
insert into router.questions (tenant, context, answer, text, embedding, expire_time)
select tenant, 'c', 'a', 't', array_fill(0.1, array[384])::public.halfvec(384), now() + interval '1 h'
from unnest(array['acme', 'other']) tenant
"""
OUTCOMES = """
insert into router.outcomes (tenant, trace_id, score, comment)
select tenant, 't', 1, '' from unnest(array['acme', 'other']) tenant
"""


COLLECTION = """
insert into pipeline.collections (tenant, name, embedding_model, dimension) values ('other', 'space', 'm', 3)
"""
JOB = "insert into pipeline.ingest_jobs (tenant, collection, state) values ('other', 'space', 'running')"
RUN = """
insert into orchestrator.runs (id, tenant, key_id, state, run, last_event_number, executor, deadline)
values ('run_1', 'acme', 'k', 2, '', 1, 'gone', now())
"""
CORPUS = {"Tarn": "The river Tarn rises in the Vellan hills."}


async def execute(database_url: str, *statements: str) -> None:
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        for statement in statements:
            await connection.execute(statement.encode())


async def tenants(database_url: str, table: str) -> list[tuple[str, int]]:
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        found = await connection.execute(
            f"select tenant, count(*) from {table} group by 1 order by 1".encode()
        )
        return await found.fetchall()


async def count(database_url: str, statement: str) -> int:
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        (number,) = await (await connection.execute(statement.encode())).fetchone() or (0,)
        return int(number)


def call(tenant: str) -> Call:
    return Call.root(timeout_s=60, tenant=tenant, key_id="qk_operator")


async def test_the_router_forgets_a_tenant_and_no_other(database_url: str) -> None:
    await execute(database_url, LEDGER, QUESTIONS, OUTCOMES)
    async with build_router(RouterSettings(database_url=database_url)) as (binding,):
        router = binding.service
        async with client_of("remote", ROUTER, router) as client:
            request = router_pb2.DeleteTenantDataRequest()
            first = await client.delete_tenant_data(request, call("acme"))
            again = await client.delete_tenant_data(request, call("acme"))
    assert (first.deleted_rows, again.deleted_rows) == (12002, 0)
    assert await tenants(database_url, "router.ledger") == [("other", 12000)]
    assert await tenants(database_url, "router.questions") == [("other", 1)]
    assert await tenants(database_url, "router.outcomes") == [("other", 1)]


async def test_the_pipeline_forgets_a_tenants_collections_documents_and_jobs(database_url: str) -> None:
    async with pipeline_service(database_url, FakeRouter()) as service:
        await ingest(service, {"moon.md": MOON, "sun.txt": SUN})
        [(mine, _)] = await tenants(database_url, "pipeline.collections")
        await execute(
            database_url,
            COLLECTION,
            JOB,
        )
        request = pipeline_pb2.DeleteTenantDataRequest()
        first = await service.delete_tenant_data(request, call(mine))
        again = await service.delete_tenant_data(request, call(mine))
    assert (first.deleted_rows, again.deleted_rows) == (4, 0)
    assert await tenants(database_url, "pipeline.collections") == [("other", 1)]
    assert await tenants(database_url, "pipeline.ingest_jobs") == [("other", 1)]
    for table in ("documents", "chunks", "ingest_items"):
        assert await count(database_url, f"select count(*) from pipeline.{table}") == 0
    unended = "select count(*) from pipeline.ingest_jobs where ended_at is null"
    assert await count(database_url, unended) == 1


async def test_the_orchestrator_cancels_a_tenants_runs_and_forgets_them_with_their_steps(
    database_url: str,
) -> None:
    stores: dict[str, Any] = {"database_url": database_url}
    peers = {
        ROUTER: QuotingRouter(),
        PIPELINE: WordPipeline(CORPUS),
    }
    message = message_pb2.Message(role=message_pb2.ROLE_USER, parts=[message_pb2.Part(text="What is it?")])
    request = orchestrator_pb2.StartRunRequest(task=run_pb2.Task(messages=[message]))
    async with (
        build(Settings(executor_id="test", **stores), peers) as (binding,),
        client_of("remote", ORCHESTRATOR, binding.service) as client,
    ):
        for tenant in ("acme", "acme", "other"):
            started = await client.start_run(request, call(tenant))
        delete = orchestrator_pb2.DeleteTenantDataRequest()
        first = await client.delete_tenant_data(delete, call("acme"))
        again = await client.delete_tenant_data(delete, call("acme"))
        watch = orchestrator_pb2.WatchRunRequest(run_id=started.run.id)
        events = [response.event async for response in client.watch_run(watch, call("other"))]
    assert events[-1].ended.run.state == run_pb2.RUN_STATE_SUCCEEDED
    assert (first.deleted_rows, again.deleted_rows) == (2, 0)
    assert await tenants(database_url, "orchestrator.runs") == [("other", 1)]
    assert await count(database_url, "select count(distinct run_id) from orchestrator.run_events") == 1
    for table in ("workflow_status", "operation_outputs"):
        steps = f"select count(distinct workflow_uuid) from orchestrator_dbos.{table}"
        assert await count(database_url, steps) == 1


class NoExecutor:
    """Carries nothing out, so that runs under way stay so."""

    id = "nobody"

    async def start(self, run_id: str) -> None:
        raise AssertionError(run_id)

    def reserve(self, run_id: str) -> None:
        raise AssertionError(run_id)

    def release(self, run_id: str) -> None:
        raise AssertionError(run_id)

    async def forget(self, run_ids: object) -> None:
        raise AssertionError(run_ids)


async def test_runs_that_do_not_stop_are_told_of_and_kept(database_url: str) -> None:
    await execute(
        database_url,
        RUN,
    )
    async with open_pool(database_url, max_size=1, timeout_s=5) as pool:
        runs = PostgresRuns(pool, max_runs_per_tenant=1)
        with pytest.raises(Unavailable) as caught:
            await Removal(runs, NoExecutor(), stop_timeout_s=0).remove("acme")
    assert caught.value.reason == "RUNS_UNDER_WAY"
    assert await count(database_url, "select count(*) from orchestrator.runs where cancel_requested") == 1
