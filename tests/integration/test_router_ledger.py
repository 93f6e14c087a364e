"""The ledger in a real PostgreSQL, written by routers in front of the provider double."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Any

import pytest

from quartet.common.v1 import message_pb2 as message
from quartet.router.v1 import router_pb2 as pb
from services.kit.call import Call
from services.kit.errors import QuartetError
from services.kit.testing import client_of, receive_otlp
from services.router.settings import Settings
from services.router.wiring import build
from tests.databases import read_rows
from tests.doubles.provider import Fault, ProviderDouble, Reply, Usage
from tests.integration.processes import run_service

SERVICE = "quartet.router.v1.RouterService"
Serve = Callable[..., AbstractAsyncContextManager[Any]]


@pytest.fixture
def serve(double: ProviderDouble, database_url: str) -> Serve:
    """A router and a client of it, for as long as the context lasts; what it owes is written at the end."""

    @asynccontextmanager
    async def serving(**settings: Any) -> AsyncIterator[Any]:
        read = Settings(
            openai_base_url=double.openai_url,
            anthropic_base_url=double.url,
            database_url=database_url,
            max_retries=0,
            **settings,
        )
        async with build(read) as (binding,), client_of("remote", SERVICE, binding.service) as client:
            yield client

    return serving


async def read_ledger(database_url: str) -> list[dict[str, Any]]:
    return await read_rows(database_url, "select * from router.ledger order by time")


def prompt(text: str = "Hello there", *, model: str = "gpt-6-luna", run_id: str = "") -> pb.Prompt:
    turn = message.Message(role=message.ROLE_USER, parts=[message.Part(text=text)])
    return pb.Prompt(messages=[turn], target=pb.Target(model=model), run_id=run_id, input_tokens=3)


def call() -> Call:
    return Call.root(timeout_s=20, tenant="acme", key_id="qk_0123456789ab")


async def test_a_whole_answer_is_a_row_that_agrees_with_it(
    serve: Serve, double: ProviderDouble, database_url: str
) -> None:
    used = Usage(
        input_tokens=1000, output_tokens=100, cached_tokens=200, cache_write_tokens=50, reasoning_tokens=10
    )
    double.script(reply=Reply(usage=used))
    async with serve() as router:
        answer = await router.generate(pb.GenerateRequest(prompt=prompt(run_id="run-1")), call())
    (row,) = await read_ledger(database_url)
    told = answer.completion.usage
    assert told.cost_micro_usd > 0
    assert {name: row[name] for name in row if name.endswith("_tokens") or name == "cost_micro_usd"} == {
        "input_tokens": told.input_tokens,
        "output_tokens": told.output_tokens,
        "cached_input_tokens": told.cached_input_tokens,
        "cache_write_tokens": told.cache_write_tokens,
        "reasoning_tokens": told.reasoning_tokens,
        "cost_micro_usd": told.cost_micro_usd,
    }
    assert (row["tenant"], row["key_id"], row["run_id"]) == ("acme", "qk_0123456789ab", "run-1")
    assert (row["operation"], row["model"], row["provider"]) == ("chat", "gpt-6-luna", "openai")
    assert (row["status"], row["estimated"]) == ("OK", False)
    assert row["duration_us"] > 0


async def test_a_row_has_the_tier_and_its_cost(
    serve: Serve, double: ProviderDouble, database_url: str
) -> None:
    used = Usage(input_tokens=10_000, output_tokens=1000)
    async with serve() as router:
        for tier in (None, "flex", "priority"):
            double.script(reply=Reply(usage=used, service_tier=tier))
            await router.generate(pb.GenerateRequest(prompt=prompt()), call())
    rows = [(row["service_tier"], row["cost_micro_usd"]) for row in await read_ledger(database_url)]
    assert rows == [("default", 1500), ("flex", 750), ("priority", 3000)]


async def test_a_stream_is_a_row_with_its_route_and_the_cost_of_its_end(
    serve: Serve, database_url: str
) -> None:
    request = pb.StreamGenerateRequest(prompt=prompt())
    request.prompt.ClearField("target")
    async with serve() as router, aclosing(router.stream_generate(request, call())) as events:
        heard = [event async for event in events]
    (row,) = await read_ledger(database_url)
    assert row["cost_micro_usd"] == heard[-1].end.usage.cost_micro_usd > 0
    assert row["route"] == heard[0].decision.route != ""


@pytest.mark.parametrize("model", ["gpt-6-luna", "claude-haiku-4-5"])
async def test_a_stream_whose_caller_goes_away_is_booked_as_far_as_it_came(
    serve: Serve, double: ProviderDouble, database_url: str, model: str
) -> None:
    double.script(reply=Reply(text="word " * 40, chunks=40), fault=Fault(hang_after_chunks=20))
    async with serve() as router:
        request = pb.StreamGenerateRequest(prompt=prompt(model=model))
        written = 0
        async with aclosing(router.stream_generate(request, call())) as events:
            async for event in events:
                written += len(event.delta.text)
                if written >= 100:
                    break
        await double.wait_disconnects()
    (row,) = await read_ledger(database_url)
    assert (row["status"], row["estimated"], row["input_tokens"]) == ("CANCELLED", True, 3)
    assert row["output_tokens"] == -(-written // 4)
    assert row["cost_micro_usd"] > 0


async def test_a_failed_call_is_a_row_with_its_reason_that_costs_nothing(
    serve: Serve, double: ProviderDouble, database_url: str
) -> None:
    double.script(fault=Fault(status=500), times=None)
    async with serve() as router:
        with pytest.raises(QuartetError) as caught:
            await router.generate(pb.GenerateRequest(prompt=prompt()), call())
    (row,) = await read_ledger(database_url)
    assert (row["status"], row["cost_micro_usd"]) == (caught.value.reason, 0)


@pytest.mark.parametrize("model", ["text-embedding-3-small", "local/minilm"])
async def test_embeddings_are_rows_with_the_cost_that_was_told(
    serve: Serve, database_url: str, model: str
) -> None:
    async with serve() as router:
        answer = await router.embed(pb.EmbedRequest(model=model, texts=["warranty " * 50]), call())
    (row,) = await read_ledger(database_url)
    assert (row["operation"], row["model"], row["status"]) == ("embeddings", model, "OK")
    assert row["input_tokens"] == answer.usage.input_tokens > 0
    assert row["cost_micro_usd"] == answer.usage.cost_micro_usd
    assert bool(row["cost_micro_usd"]) is (model != "local/minilm")


async def test_a_quoted_answer_is_a_row_that_costs_nothing(serve: Serve, database_url: str) -> None:
    asked = prompt("How long is the warranty?", model="local/extractive")
    text = "The warranty lasts two years. Bring the receipt."
    asked.messages[0].parts.insert(0, message.Part(passage=message.Passage(title="Warranty", text=text)))
    async with serve() as router:
        answer = await router.generate(pb.GenerateRequest(prompt=asked), call())
    (row,) = await read_ledger(database_url)
    assert (row["model"], row["status"]) == ("local/extractive", "OK")
    assert row["input_tokens"] == answer.completion.usage.input_tokens
    assert row["cost_micro_usd"] == answer.completion.usage.cost_micro_usd == 0


async def test_rows_are_written_within_the_interval(serve: Serve, database_url: str) -> None:
    async with serve(ledger_interval_s=0.05) as router:
        await router.generate(pb.GenerateRequest(prompt=prompt()), call())
        await wait_for_rows(database_url, 1)


async def wait_for_rows(database_url: str, count: int) -> None:
    for _ in range(200):
        if len(await read_ledger(database_url)) >= count:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"there are no {count} rows")


async def test_a_database_that_was_away_gets_each_row_once(serve: Serve, database_url: str) -> None:
    async with serve(ledger_interval_s=0.05) as router:
        await router.generate(pb.GenerateRequest(prompt=prompt()), call())
        await wait_for_rows(database_url, 1)
        await read_rows(database_url, "alter table router.ledger rename to ledger_away")
        await read_rows(
            database_url,
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname = current_database() and pid <> pg_backend_pid()",
        )
        for _ in range(3):
            await router.generate(pb.GenerateRequest(prompt=prompt()), call())
        await asyncio.sleep(0.2)
        await read_rows(database_url, "alter table router.ledger_away rename to ledger")
        await wait_for_rows(database_url, 4)
    assert len(await read_ledger(database_url)) == 4


async def test_an_entry_that_the_database_refuses_does_not_hold_up_the_others(
    serve: Serve, database_url: str
) -> None:
    async with serve(ledger_interval_s=0.2) as router:
        for run_id in ("run-1", "no\x00text", "run-3"):
            await router.generate(pb.GenerateRequest(prompt=prompt(run_id=run_id)), call())
        await wait_for_rows(database_url, 2)
    assert [row["run_id"] for row in await read_ledger(database_url)] == ["run-1", "run-3"]


async def test_a_router_that_is_told_to_stop_loses_no_row_and_agrees_with_the_trace(
    double: ProviderDouble, database_url: str
) -> None:
    async with receive_otlp() as receiver:
        environment = {
            "ROUTER_LEDGER_INTERVAL_S": "600",
            "OPENAI_BASE_URL": double.openai_url,
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
            "DATABASE_URL": database_url,
            "REDIS_URL": "",
        }
        async with run_service("router", SERVICE, **environment) as (process, client):
            answers = [
                await client.generate(pb.GenerateRequest(prompt=prompt(f"Hello {number}")), call())
                for number in range(5)
            ]
            assert await read_ledger(database_url) == []
            process.send_signal(signal.SIGTERM)
            status = await asyncio.wait_for(process.wait(), 30)
        spans = [span for span in receiver.spans if span.name.startswith("chat ")]
    rows = await read_ledger(database_url)
    assert status == 0
    costs = [answer.completion.usage.cost_micro_usd for answer in answers]
    assert [row["cost_micro_usd"] for row in rows] == costs
    traced = {span.trace_id: span.attributes["quartet.cost_micro_usd"] for span in spans}
    assert {row["trace_id"]: row["cost_micro_usd"] for row in rows} == traced
