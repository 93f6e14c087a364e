"""Answers that are asked for twice, through Envoy and the real stores."""

import json
from typing import Any

import aiohttp
import anthropic
import openai
import pytest

from tests.doubles.provider import Fault, ProviderDouble
from tests.e2e.suite import Suite

MODEL = "gpt-6-luna"
QUESTION = "Count from one to nine, please"


async def events_of(suite: Suite, request: dict[str, Any], *, leave_at: int = 0) -> tuple[list[Any], str]:
    """The events of a native stream as JSON and the key to resume it; breaks the connection at an event."""
    events, headers = [], {"authorization": f"Bearer {suite.api_key}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"{suite.url}/api/v1/generate:stream", json=request) as response,
    ):
        assert response.status == 200, await response.text()
        async for line in response.content:
            if line.startswith(b"data: "):
                events.append(json.loads(line.removeprefix(b"data: ")))
                if leave_at and int(events[-1]["event_number"]) == leave_at:
                    break
        return events, response.headers.get("x-quartet-resume-key", "")


async def test_a_stream_whose_client_died_is_taken_up_through_envoy(
    configured_suite: Suite, provider: ProviderDouble
) -> None:
    provider.reset()
    provider.script(fault=Fault(chunk_delay_s=0.1))
    message = {"role": "ROLE_USER", "parts": [{"text": QUESTION}]}
    generation = {"target": {"name": MODEL}, "messages": [message]}
    begun, key = await events_of(configured_suite, {"generation": generation, "resumable": True}, leave_at=3)
    generation["idempotency_key"] = key
    rest, _ = await events_of(configured_suite, {"generation": generation, "from_event_number": 4})
    whole, _ = await events_of(configured_suite, {"generation": generation, "from_event_number": 1})
    assert [*begun, *rest] == whole
    assert [int(event["event_number"]) for event in whole] == list(range(1, len(whole) + 1))
    assert QUESTION in "".join(event.get("delta", {}).get("text", "") for event in whole)
    assert int(whole[-1]["end"]["usage"]["cost_micro_usd"]) > 0
    assert provider.calls() == 1
    assert not provider.disconnects


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_both_stock_clients_get_the_same_answer_twice_and_pay_once(
    configured_suite: Suite, provider: ProviderDouble, stream: bool
) -> None:
    provider.reset()
    key = {"Idempotency-Key": f"order-66-{stream}"}
    async with (
        openai.AsyncOpenAI(
            base_url=f"{configured_suite.url}/v1", api_key=configured_suite.api_key
        ) as openai_client,
        anthropic.AsyncAnthropic(
            base_url=configured_suite.url, api_key=configured_suite.api_key
        ) as anthropic_client,
    ):
        chat = openai_client.chat.completions.with_raw_response
        said = [
            await chat.create(
                model=MODEL,
                messages=[{"role": "user", "content": QUESTION}],
                stream=stream,
                extra_headers=key,
            )
            for _ in range(2)
        ]
        bodies = [await answer.http_response.aread() for answer in said]
        assert bodies[0] == bodies[1]
        assert QUESTION.encode() in bodies[0] or stream
        assert "x-quartet-replayed" not in said[0].headers
        assert said[1].headers["x-quartet-replayed"] == "true"
        assert said[1].headers["x-quartet-trace-id"] == said[0].headers["x-quartet-trace-id"]
        with pytest.raises(openai.ConflictError) as caught:
            await chat.create(
                model=MODEL, messages=[{"role": "user", "content": "Else"}], stream=stream, extra_headers=key
            )
        assert caught.value.code == "idempotency_key_reused"
        assert provider.calls() == 1

        key["Idempotency-Key"] += "-anthropic"
        messages = anthropic_client.messages.with_raw_response
        told = [
            await messages.create(
                model=MODEL,
                max_tokens=99,
                messages=[{"role": "user", "content": QUESTION}],
                stream=stream,
                extra_headers=key,
            )
            for _ in range(2)
        ]
        bodies = [await each.http_response.aread() for each in told]
        assert bodies[0] == bodies[1]
        assert told[1].headers["x-quartet-replayed"] == "true"
        with pytest.raises(anthropic.ConflictError):
            await messages.create(
                model=MODEL,
                max_tokens=99,
                messages=[{"role": "user", "content": "Else"}],
                stream=stream,
                extra_headers=key,
            )
        assert provider.calls() == 2
