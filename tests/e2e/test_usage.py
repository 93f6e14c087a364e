"""The answer, its trace and the ledger tell the same, and every way to ask for usage tells the ledger."""

import asyncio
import json
from typing import Any

import aiohttp

from services.kit.testing import OtlpReceiver
from tests.e2e.suite import Suite

POLLS = 50


async def used(suite: Suite) -> dict[str, int]:
    """All that was used so far, as the command line tells it."""
    rows = json.loads(await suite.quartet("usage", "--by", "", "--json"))["rows"]
    return rows[0] if rows else {"calls": 0, "cost_micro_usd": 0}


async def test_an_answer_its_trace_and_the_ledger_agree_to_the_micro_usd(
    configured_suite: Suite, spans: OtlpReceiver
) -> None:
    before = await used(configured_suite)
    headers = {"authorization": f"Bearer {configured_suite.api_key}"}
    turn = {"role": "ROLE_USER", "parts": [{"text": "Say pineapple, and then some more"}]}
    body = {"generation": {"target": {"name": "gpt-6-luna"}, "messages": [turn]}}
    async with aiohttp.ClientSession(configured_suite.url, headers=headers) as api:
        async with api.post("/api/v1/generate", json=body) as response:
            answer: dict[str, Any] = await response.json()
            assert response.status == 200, answer
            trace_id = response.headers["x-quartet-trace-id"]
        cost = int(answer["completion"]["usage"]["cost_micro_usd"])
        assert cost > 0
        for _ in range(POLLS):
            after = await used(configured_suite)
            if after["calls"] > before["calls"]:
                break
            await asyncio.sleep(0.2)
        assert after["calls"] == before["calls"] + 1
        assert after["cost_micro_usd"] == before["cost_micro_usd"] + cost
        async with api.get("/api/v1/usage?group_by=model&group_by=day") as response:
            rows = (await response.json())["rows"]
    assert sum(int(row.get("cost_micro_usd", 0)) for row in rows) == after["cost_micro_usd"]
    for _ in range(POLLS):
        traced = [span for span in spans.trace(trace_id) if span.name == "chat gpt-6-luna"]
        if traced:
            break
        await asyncio.sleep(0.2)
    assert [span.attributes["quartet.cost_micro_usd"] for span in traced] == [cost]
