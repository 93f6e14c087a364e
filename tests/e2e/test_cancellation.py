"""Clients that leave: nothing of their calls goes on, and what was spent is written down."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
import pytest
from redis.asyncio import Redis

from services.cli.settings import SERVICES
from services.cli.stack.ports import PARTS
from services.kit import names
from services.kit.testing import OtlpReceiver
from tests.doubles.provider import Fault, Match, ProviderDouble, Reply
from tests.e2e.suite import Suite

CALLS = 1_000
CONNECTIONS = 40
LONGEST_S = 1.0
"""What a call may take at most here; the clients leave at any moment before."""
BUSY = {f"{status} {reason}" for status in (503, 529) for reason in ("OVERLOADED", "QUOTA_UNAVAILABLE")}
"""What a client may hear from a machine with more to do than it can."""
SPARE_TASKS = 2
SETTLE_S = 45.0
"""For all to come to rest on a busy machine. How soon it is in fact, bench.cancel tells."""
MODEL, CLAUDE = "gpt-6-luna", "claude-haiku-5-5"
CLOSE_WAIT = "08"
"""In /proc/net/tcp, as include/net/tcp_states.h numbers it."""
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


def reason_of(answer: bytes) -> str:
    """Why a call was refused, by any of the three shapes of errors."""
    value = json.loads(answer)
    if "error" in value:
        return str(value["error"]["quartet"]["reason"])
    return next(
        (str(detail["reason"]) for detail in value.get("details", ()) if "reason" in detail), str(value)
    )


async def leave_after(api: aiohttp.ClientSession, kind: tuple[str, Any], patience_s: float) -> str:
    """Sends a request, and closes its connection when the time is over; gives what came of it."""
    path, body = kind
    try:
        async with asyncio.timeout(patience_s), api.post(path, json=body) as response:
            answer = await response.read()
            return "200" if response.status == 200 else f"{response.status} {reason_of(answer)}"
    except TimeoutError:
        return "left"


async def until(holds: Callable[[], bool], timeout_s: float = SETTLE_S) -> bool:
    """Whether it holds within the time."""
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout_s
    while not holds():
        if loop.time() > end:
            return False
        await asyncio.sleep(0.1)
    return True


async def envoy_gauge(suite: Suite, name: str) -> int:
    url = f"http://127.0.0.1:{suite.environment['QUARTET_ENVOY_ADMIN_PORT']}/stats?filter=^{name}$"
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        return int((await response.text()).rpartition(":")[2])


def half_closed(suite: Suite, provider: ProviderDouble) -> list[str]:
    """Sockets of the suite's that the other side has closed and ours holds on to, from the kernel's table."""
    ports = {int(suite.environment[f"QUARTET_{part.upper()}_PORT"]) for part in PARTS}
    ports.add(int(provider.url.rpartition(":")[2]))
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    rows = [line.split()[1:4] for line in lines]
    return [
        f"{here} {there}"
        for here, there, state in rows
        if state == CLOSE_WAIT and not ports.isdisjoint((port_of(here), port_of(there)))
    ]


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2], 16)


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
            assert await leave_after(api, kind, 60) == "200", kind
        tasks = await idle_tasks(spans)
        await asyncio.gather(*(client(api) for _ in range(CONNECTIONS)))
        assert tally["left"] > CALLS / 4, tally
        assert set(tally) <= {"left", "200", *BUSY}, tally
        assert await until(lambda: provider.in_flight == 0), provider.stats()
        assert await envoy_gauge(apart_suite, "cluster.gateway.upstream_rq_active") == 0
        assert await until(lambda: not half_closed(apart_suite, provider)), half_closed(apart_suite, provider)
        assert await until(lambda: spans.gauges["gateway", names.CAPACITY_CALLS] == 0)
        assert await until(lambda: not busier(spans, tasks)), busier(spans, tasks)
        assert await no_reservation_is_left(apart_suite)
        assert await leave_after(api, KINDS[0], 60) == "200"


async def limited_key(suite: Suite) -> str:
    """A key with limits that nothing here reaches, so that every call has an account."""
    quotas = ("tokens_per_minute", "tokens_per_day", "micro_usd_per_day", "concurrent_calls")
    options = [option for name in quotas for option in ("--quota", f"{name}=1000000000")]
    made = await suite.quartet("keys", "create", "limited", "--scope", "*", *options, "--json")
    return str(json.loads(made)["secret"])


async def no_reservation_is_left(suite: Suite) -> bool:
    """Whether accounts and places come to nothing."""
    port = suite.environment["QUARTET_REDIS_PORT"]
    password = (suite.home / "redis.password").read_text(encoding="ascii").strip()
    async with Redis.from_url(f"redis://:{password}@127.0.0.1:{port}/0") as redis:
        loop = asyncio.get_running_loop()
        end = loop.time() + SETTLE_S
        while loop.time() < end:
            held = [
                key
                for pattern in ("account:*", "accounts", "places:*")
                async for key in redis.scan_iter(f"quartet:{{default}}:{pattern}")
            ]
            if not held:
                return True
            await asyncio.sleep(0.2)
    return False


async def idle_tasks(spans: OtlpReceiver) -> dict[str, float]:
    """How many tasks each service has with nothing to do, and a few for what it does of its own accord."""
    spans.gauges.clear()
    assert await until(lambda: all((name, names.TASKS) in spans.gauges for name in SERVICES))
    return {name: spans.gauges[name, names.TASKS] + SPARE_TASKS for name in SERVICES}


def busier(spans: OtlpReceiver, tasks: Mapping[str, float]) -> dict[str, float]:
    """The services that have more tasks than they had when idle, and how many."""
    now = {name: spans.gauges[name, names.TASKS] for name in SERVICES}
    return {name: count for name, count in now.items() if count > tasks[name]}


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
