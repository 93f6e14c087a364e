import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import pytest

from quartet.common.v1 import message_pb2, run_pb2
from quartet.orchestrator.v1 import orchestrator_pb2 as pb
from services.kit.binding import Binding
from services.kit.call import Call
from services.kit.testing import serve
from services.orchestrator.wiring import ORCHESTRATOR, PIPELINE, ROUTER
from tests.contract.orchestrator.peers import QuotingRouter, WordPipeline
from tests.integration.processes import run_service

CORPUS = {
    "Aldermoor Bridge": "The Aldermoor Bridge was opened in 1932 and crosses the river Tarn.",
    "Corvane Bridge": "The Corvane Bridge was opened in 1951 after nine years of work.",
}
QUESTION = "Which was opened first, the Aldermoor Bridge or the Corvane Bridge?"
STUCK_S = 60.0


@dataclass(slots=True)
class Neighbours:
    router: QuotingRouter
    pipeline: WordPipeline
    environment: dict[str, str]


@pytest.fixture
async def neighbours(database_url: str, redis_url: str) -> AsyncIterator[Neighbours]:
    router, pipeline = QuotingRouter(), WordPipeline(CORPUS)
    async with serve(Binding(ROUTER, router), Binding(PIPELINE, pipeline)) as server:
        environment = {
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "ORCHESTRATOR_ROUTER_ADDRESS": server.address,
            "ORCHESTRATOR_PIPELINE_ADDRESS": server.address,
            "ORCHESTRATOR_HEARTBEAT_S": "0.2",
            "ORCHESTRATOR_SILENT_AFTER_S": "1.5",
            "QUARTET_DRAIN_TIMEOUT_S": "0.2",
        }
        yield Neighbours(router=router, pipeline=pipeline, environment=environment)


def orchestrator(
    neighbours: Neighbours, name: str
) -> AbstractAsyncContextManager[tuple[asyncio.subprocess.Process, Any]]:
    return run_service("orchestrator", ORCHESTRATOR, ORCHESTRATOR_EXECUTOR_ID=name, **neighbours.environment)


def call() -> Call:
    return Call.root(timeout_s=60, tenant="acme")


async def start(client: Any) -> str:
    message = message_pb2.Message(role=message_pb2.ROLE_USER, parts=[message_pb2.Part(text=QUESTION)])
    request = pb.StartRunRequest(task=run_pb2.Task(messages=[message], cache_control="no-store"))
    return str((await client.start_run(request, call())).run.id)


async def start_stuck(client: Any, neighbours: Neighbours) -> str:
    """A run whose analysis is under way, and stays so."""
    neighbours.router.delay_s = STUCK_S
    run_id = await start(client)
    async with asyncio.timeout(20):
        await neighbours.router.waiting.wait()
    return run_id


async def watch(client: Any, run_id: str) -> list[run_pb2.RunEvent]:
    stream = client.watch_run(pb.WatchRunRequest(run_id=run_id), call())
    return [response.event async for response in stream if response.event.number]


def check(events: list[run_pb2.RunEvent], neighbours: Neighbours, run_id: str) -> None:
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    run = events[-1].ended.run
    assert (run.state, run.stop_reason) == (run_pb2.RUN_STATE_SUCCEEDED, run_pb2.STOP_REASON_DONE)
    assert "1932" in run.completion.message.parts[0].text
    ended = [event.step_ended.step.id for event in events if event.HasField("step_ended")]
    assert ended == ["1.1", "1.2", "1.3", "1.4"]
    assert len(neighbours.pipeline.queries) == 2
    # The step under way when the process died is done again, by the same key; the others once.
    assert neighbours.router.calls == {f"{run_id}/1.3": 2, f"{run_id}/1.4": 1}
    # What was said of caches holds before and after.
    assert neighbours.pipeline.cache_controls == ["no-store"] * 2
    assert [prompt.cache_control for prompt in neighbours.router.prompts] == ["no-store"] * 3


async def test_a_killed_run_goes_on_after_the_restart(neighbours: Neighbours) -> None:
    async with orchestrator(neighbours, "one") as (process, client):
        run_id = await start_stuck(client, neighbours)
        process.kill()
        await process.wait()
    neighbours.router.delay_s = 0
    async with orchestrator(neighbours, "one") as (_, client):
        check(await watch(client, run_id), neighbours, run_id)


async def test_the_runs_of_a_silent_process_are_taken_over(neighbours: Neighbours) -> None:
    async with (
        orchestrator(neighbours, "one") as (process, client),
        orchestrator(neighbours, "two") as (_, other),
    ):
        run_id = await start_stuck(client, neighbours)
        neighbours.router.delay_s = 0
        process.kill()
        check(await watch(other, run_id), neighbours, run_id)


async def test_a_stopped_process_leaves_its_runs_to_the_next(neighbours: Neighbours) -> None:
    async with orchestrator(neighbours, "one") as (process, client):
        run_id = await start_stuck(client, neighbours)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert await process.wait() == 0
    neighbours.router.delay_s = 0
    async with orchestrator(neighbours, "one") as (_, client):
        check(await watch(client, run_id), neighbours, run_id)
