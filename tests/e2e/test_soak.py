"""Long proofs, run by `make soak` only."""

import os
import signal

import aiohttp
import pytest

from tests.e2e.suite import Suite
from tests.e2e.test_agent import FUTILE, end_of, events_of, start

KILLS = 9
"""After ten crashes without a stable minute between, the supervisor would give the program up."""
RUNS_A_KILL = 10


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_no_run_is_lost_or_doubled_however_often_the_orchestrator_is_killed(suite: Suite) -> None:
    headers = {"authorization": f"Bearer {suite.api_key}"}
    async with aiohttp.ClientSession(suite.url, headers=headers) as api:
        for _ in range(KILLS):
            runs = [await start(api, FUTILE) for _ in range(RUNS_A_KILL)]
            os.kill(suite.pid("orchestrator"), signal.SIGKILL)
            for run_id in runs:
                assert (await end_of(api, run_id))["stop_reason"] == "STOP_REASON_MAX_ITERATIONS"
                events = await events_of(api, run_id)
                assert [int(event["number"]) for event in events] == list(range(1, len(events) + 1))
