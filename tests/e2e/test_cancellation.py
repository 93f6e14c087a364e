"""Clients that leave: nothing of their calls goes on, and what was spent is written down."""

import asyncio
import random
from collections import Counter
from typing import Any

import aiohttp
import psycopg
import pytest

from services.kit import names
from services.kit.testing import OtlpReceiver
from tests.doubles.provider import Fault, Match, ProviderDouble, Reply
from tests.e2e.suite import Suite
from tests.e2e.vitals import (
    busier,
    envoy_gauge,
    half_closed,
    idle_tasks,
    limited_key,
    reason_of,
    reservations,
    until,
)

CALLS = 1_000
CONNECTIONS = 40
LONGEST_S = 1.0
"""What a call may take at most here; the clients leave at any moment before."""
BUSY = {f"{status} {reason}" for status in (503, 529) for reason in ("OVERLOADED", "QUOTA_UNAVAILABLE")}
"""What a client may hear from a machine with more to do than it can."""
MODEL, CLAUDE = "gpt-6-luna", "claude-haiku-5-5"
TEXT = " ".join(f"word{number}" for number in range(40))


def chat(model: str, *, stream: bool) -> tuple[str, Any]:
    messages = [{"role": "user", "content": "Say something long, please."}]
    return "/v1/chat/completions", {"model": model, "stream": stream, "messages": messages}


def message(model: str, *, stream: bool) -> tuple[str, Any]:
    path, body = chat(model, stream=stream)
    return path.replace("chat/completions", "messages"), body | {"max_tokens": 500}


def response(model: str, *, stream: bool) -> tuple[str, Any]:
    return "/v1/responses", {"model": model, "stream": stream, "input": "Say something long, please."}


def native(path: str, name: str) -> tuple[str, Any]:
    turn = {"role": "ROLE_USER", "parts": [{"text": "Say something long, please."}]}
    return path, {"generation": {"target": {"name": name}, "messages": [turn]}}


KINDS: tuple[tuple[str, Any], ...] = (
    *(chat(model, stream=stream) for model in (MODEL, CLAUDE) for stream in (True, False)),
    *(message(model, stream=stream) for model in (MODEL, CLAUDE) for stream in (True, False)),
    *(response(model, stream=stream) for model in (MODEL, CLAUDE) for stream in (True, False)),
    ("/v1/embeddings", {"model": "text-embedding-3-small", "input": ["one", "two"]}),
    native("/api/v1/generate", MODEL),
    native("/api/v1/generate:stream", MODEL),
    chat("rag/default", stream=True),
    native("/api/v1/generate", "rag/default"),
)
RARE = (chat("agent", stream=True), native("/api/v1/generate:stream", "agent"))
"""Of which each call makes several of a model."""


def is_slow(provider: ProviderDouble) -> None:
    """Every answer takes between a quarter of a second and a second."""
    provider.reset()
    slow = Fault(delay_s=0.05, chunk_delay_s=0.02)
    provider.script(match=Match(stream=True), reply=Reply(text=TEXT), fault=slow, times=None)
    provider.script(reply=Reply(text=TEXT), fault=Fault(delay_s=0.4), times=None)


async def leave_after(api: aiohttp.ClientSession, kind: tuple[str, Any], patience_s: float) -> str:
    """Sends a request, and closes its connection when the time is over; gives what came of it."""
    path, body = kind
    try:
        async with asyncio.timeout(patience_s), api.post(path, json=body) as response:
            answer = await response.read()
            return "200" if response.status == 200 else f"{response.status} {reason_of(answer)}"
    except TimeoutError:
        return "left"


async def served(api: aiohttp.ClientSession, kind: tuple[str, Any]) -> str:
    """What comes of a request whose client stays, and asks again where the machine has too much to do."""
    for _ in range(10):
        if (outcome := await leave_after(api, kind, 60)) not in BUSY:
            break
        await asyncio.sleep(1)
    return outcome


@pytest.mark.timeout(300)
async def test_calls_that_are_left_at_any_moment_leave_nothing_behind(
    apart_suite: Suite, provider: ProviderDouble, spans: OtlpReceiver
) -> None:
    chance = random.Random(7)
    headers = {"authorization": f"Bearer {await limited_key(apart_suite)}"}
    is_slow(provider)
    tally: Counter[str] = Counter()
    left = iter(range(CALLS))

    async def client(api: aiohttp.ClientSession) -> None:
        for number in left:
            kind = RARE[number % 2] if number % 50 == 0 else chance.choice(KINDS)
            tally[await leave_after(api, kind, chance.uniform(0.001, LONGEST_S))] += 1

    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(apart_suite.url, headers=headers, connector=connector) as api:
        for kind in (*KINDS, *RARE):
            assert await served(api, kind) == "200", kind
        tasks = await idle_tasks(spans)
        await asyncio.gather(*(client(api) for _ in range(CONNECTIONS)))
        assert tally["left"] > CALLS / 4, tally
        assert set(tally) <= {"left", "200", *BUSY}, tally
        assert await until(lambda: provider.in_flight == 0), provider.stats()
        assert await envoy_gauge(apart_suite, "cluster.gateway.upstream_rq_active") == 0
        assert await until(lambda: not half_closed(apart_suite, provider)), half_closed(apart_suite, provider)
        assert await until(lambda: spans.gauges["gateway", names.CAPACITY_CALLS] == 0)
        assert await until(lambda: not busier(spans, tasks)), busier(spans, tasks)
        assert not (held := await reservations(apart_suite)), held
        assert await served(api, KINDS[0]) == "200"


async def test_what_a_client_that_left_had_read_is_in_the_ledger(
    apart_suite: Suite, provider: ProviderDouble
) -> None:
    provider.reset()
    provider.script(reply=Reply(text=TEXT), fault=Fault(chunk_delay_s=0.1), times=None)
    headers = {"authorization": f"Bearer {apart_suite.api_key}"}
    path, body = chat(MODEL, stream=True)
    async with aiohttp.ClientSession(apart_suite.url, headers=headers) as api:
        response = await api.post(path, json=body)
        trace_id = response.headers["x-quartet-trace-id"]
        while b"word3" not in await response.content.readline():
            pass
        response.close()
    await provider.wait_disconnects(1, timeout_s=5)
    row = await ledger_row(apart_suite, trace_id)
    assert row[:2] == ("CANCELLED", True)
    input_tokens, output_tokens, cost_micro_usd = row[2:]
    assert input_tokens > 0
    assert 0 < output_tokens < len(TEXT) / 4
    assert cost_micro_usd > 0


async def ledger_row(suite: Suite, trace_id: str) -> tuple[Any, ...]:
    password = (suite.home / "postgres.password").read_text(encoding="ascii").strip()
    port = suite.environment["QUARTET_POSTGRES_PORT"]
    url = f"postgresql://quartet:{password}@127.0.0.1:{port}/quartet"
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        for _ in range(100):
            cursor = await connection.execute(
                "select status, estimated, input_tokens, output_tokens, cost_micro_usd "
                "from router.ledger where trace_id = %s",
                (trace_id,),
            )
            if row := await cursor.fetchone():
                return row
            await asyncio.sleep(0.1)
    raise AssertionError("no row in the ledger")
