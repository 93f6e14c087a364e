"""The orchestrator through the edge, planned by rules, without a key."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest_asyncio

from tests.e2e.suite import Suite

FUTILE = "Which quarterly dividend did the shareholders of Acme Corporation vote for in 2031?"
POLLS = 300


@pytest_asyncio.fixture
async def api(suite: Suite) -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"authorization": f"Bearer {suite.api_key}"}
    async with aiohttp.ClientSession(suite.url, headers=headers) as session:
        yield session


async def start(api: aiohttp.ClientSession, question: str) -> str:
    task = {"messages": [{"role": "ROLE_USER", "parts": [{"text": question}]}]}
    async with api.post("/api/v1/runs", json={"task": task}) as response:
        assert response.status == 200, await response.text()
        run_id: str = (await response.json())["run"]["id"]
        return run_id


async def end_of(api: aiohttp.ClientSession, run_id: str) -> dict[str, Any]:
    """The run once it has ended; the orchestrator may be away for a while meanwhile."""
    for _ in range(POLLS):
        async with api.get(f"/api/v1/runs/{run_id}") as response:
            run: dict[str, Any] = (await response.json()).get("run", {})
            if run.get("end_time"):
                return run
        await asyncio.sleep(0.2)
    raise AssertionError(f"{run_id} did not end: {run}")


async def events_of(api: aiohttp.ClientSession, run_id: str) -> list[dict[str, Any]]:
    """What was recorded of an ended run, as the edge sends it: one server-sent event each."""
    async with api.get(f"/api/v1/runs/{run_id}/events") as response:
        lines = (await response.text()).split("\n\n")
    return [json.loads(line.removeprefix("data: "))["event"] for line in lines if line]


async def test_a_missed_first_retrieval_is_planned_anew(api: aiohttp.ClientSession) -> None:
    question = "Which vectors store was chosen, and what did its median query take?"
    run = await end_of(api, await start(api, question))
    assert (run["state"], run["stop_reason"]) == ("RUN_STATE_SUCCEEDED", "STOP_REASON_DONE")
    assert run["replans"] >= 1
    assert "0.5 ms" in json.dumps(run["completion"])


async def test_a_question_that_can_never_be_answered_stops_at_its_cap(api: aiohttp.ClientSession) -> None:
    run = await end_of(api, await start(api, FUTILE))
    assert run["stop_reason"] == "STOP_REASON_MAX_ITERATIONS"
    assert run["iterations"] == 8
    assert run["completion"]["message"]["parts"]


async def test_a_killed_orchestrator_s_run_goes_on_and_does_each_step_once(
    suite: Suite, api: aiohttp.ClientSession
) -> None:
    run_id = await start(api, FUTILE)
    os.kill(suite.pid("orchestrator"), signal.SIGKILL)
    run = await end_of(api, run_id)
    assert run["stop_reason"] == "STOP_REASON_MAX_ITERATIONS"
    events = await events_of(api, run_id)
    assert [int(event["number"]) for event in events] == list(range(1, len(events) + 1))
    ended = [event["step_ended"]["step"]["id"] for event in events if "step_ended" in event]
    assert len(ended) == len(set(ended))
    assert "ended" in events[-1]
