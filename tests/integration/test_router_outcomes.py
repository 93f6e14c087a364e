"""Decisions, outcomes and calibrations in a real PostgreSQL, from the answer to the policy."""

import asyncio
from contextlib import aclosing
from pathlib import Path
from shutil import copytree
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from quartet.common.v1 import message_pb2 as message
from quartet.router.v1 import router_pb2 as pb
from services.cli.__main__ import app
from services.kit.call import Call
from services.kit.errors import FailedPrecondition, NotFound
from services.kit.testing import client_of
from services.router.settings import Settings
from services.router.wiring import build
from tests.databases import read_rows
from tests.doubles.provider import ProviderDouble

SERVICE = "quartet.router.v1.RouterService"
TRACE = "0af7651916cd43dd8448eb211c80319c"
EASY, HARD = (
    "What is the capital of France?",
    "Compare three ways to prove that there are infinitely many primes.",
)
CONFIG = Path(__file__).parents[2] / "config"


def call(tenant: str = "acme") -> Call:
    return Call.root(timeout_s=20, tenant=tenant, metadata={"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"})


def prompt(text: str) -> pb.Prompt:
    turn = message.Message(role=message.ROLE_USER, parts=[message.Part(text=text)])
    return pb.Prompt(messages=[turn], target=pb.Target(route="complex"), input_tokens=10)


@pytest.fixture
def settings(double: ProviderDouble, database_url: str, tmp_path: Path) -> Settings:
    """Of a router whose route `complex` lives by a savings target and shadows a quality floor."""
    folder = copytree(CONFIG, tmp_path / "config")
    routes = (folder / "routes.yaml").read_text()
    assert "shadow: {keep: 0.95}" in routes
    text = routes.replace("shadow: {keep: 0.95}", "policy: {save: 0.9}\n    shadow: {keep: 0.99}")
    (folder / "routes.yaml").write_text(text)
    return Settings(
        openai_base_url=double.openai_url,
        database_url=database_url,
        config_dir=folder,
        calibration_interval_s=0.05,
        max_retries=0,
    )


async def test_a_choice_between_tiers_is_written_down_with_its_shadow(
    settings: Settings, database_url: str
) -> None:
    async with build(settings) as (binding,), client_of("remote", SERVICE, binding.service) as router:
        await router.generate(pb.GenerateRequest(prompt=prompt(EASY)), call())
        request = pb.StreamGenerateRequest(prompt=prompt(HARD))
        async with aclosing(router.stream_generate(request, call())) as events:
            heard = [event async for event in events]
        assert heard[0].decision.policy == "save 0.9: cheaper"
    rows = await read_rows(database_url, "select * from router.decisions order by time")
    assert [(row["tenant"], row["route"], row["model"]) for row in rows] == [
        ("acme", "complex", "gpt-6-luna")
    ] * 2
    assert {row["tier"] for row in rows} == {"cheaper"}
    assert all(row["trace_id"] == TRACE and row["shadow"] for row in rows)
    assert all(row["strong_micro_usd"] > row["cheaper_micro_usd"] for row in rows)
    ledger = await read_rows(database_url, "select cost_micro_usd, baseline_micro_usd from router.ledger")
    assert all(row["baseline_micro_usd"] > row["cost_micro_usd"] for row in ledger)


async def test_policies_are_compared_for_the_callers_tenant_only(settings: Settings) -> None:
    async with build(settings) as (binding,), client_of("remote", SERVICE, binding.service) as router:
        for text in (EASY, HARD):
            await router.generate(pb.GenerateRequest(prompt=prompt(text)), call())
        rows = await compare_until(router, decisions=2)
        other = await router.compare_policies(pb.ComparePoliciesRequest(), call("other"))
    assert (rows[0].route, rows[0].decisions) == ("complex", 2)
    assert rows[0].shadow_micro_usd >= rows[0].live_micro_usd > 0
    assert not other.routes


async def test_a_word_on_an_answer_is_kept_and_the_last_one_counts(
    settings: Settings, database_url: str
) -> None:
    async with build(settings) as (binding,), client_of("remote", SERVICE, binding.service) as router:
        await router.generate(pb.GenerateRequest(prompt=prompt(EASY)), call())
        for score in (0.2, 0.9):
            await router.record_outcome(pb.RecordOutcomeRequest(trace_id=TRACE, score=score), call())
        with pytest.raises(NotFound) as caught:
            await router.record_outcome(pb.RecordOutcomeRequest(trace_id=TRACE, score=1), call("other"))
    assert caught.value.reason == "TRACE_NOT_FOUND"
    rows = await read_rows(database_url, "select tenant, score from router.outcomes")
    assert [(row["tenant"], row["score"]) for row in rows] == [("acme", 0.9)]


async def test_a_calibration_from_outcomes_changes_what_a_running_router_decides(
    settings: Settings, database_url: str
) -> None:
    async with build(settings) as (binding,), client_of("remote", SERVICE, binding.service) as router:
        decision = (await router.generate(pb.GenerateRequest(prompt=prompt(HARD)), call())).decision
        await router.record_outcome(pb.RecordOutcomeRequest(trace_id=TRACE, score=0), call())
        (noted,) = await read_rows(database_url, "select * from router.decisions")
        assert decision.policy.startswith("save 0.9")
        # Ten thousand more answers of the cheaper tier were wrong, and ten thousand of the strong one right.
        async with await psycopg.AsyncConnection.connect(database_url) as connection:
            await connection.execute(
                """
                insert into router.decisions
                select format('made-%%s', n), now(), 'acme', md5(n::text), 'complex', 'm', %(uplift)s,
                  case n %% 2 when 0 then 'cheaper' else 'strong' end, '', 1, 20
                from generate_series(1, 20000) n
                """,
                {"uplift": noted["uplift"]},
            )
            await connection.execute(
                "insert into router.outcomes select tenant, trace_id, now(), "
                "case tier when 'strong' then 1 else 0 end, '' from router.decisions where model = 'm'"
            )
        runner = CliRunner(env={"DATABASE_URL": database_url})
        shown = await asyncio.to_thread(runner.invoke, app, ["router", "calibrate", "--dry-run"])
        assert (shown.exit_code, "20,001 outcomes" in shown.output) == (0, True), shown.output
        assert not await read_rows(database_url, "select from router.calibrations")
        written = await asyncio.to_thread(runner.invoke, app, ["router", "calibrate"])
        assert (written.exit_code, "written" in written.output) == (0, True), written.output
        (row,) = await read_rows(database_url, "select outcomes, bins from router.calibrations")
        assert row["outcomes"] == 20_001
        async with asyncio.timeout(10):
            while True:
                if await shadow_of(router, prompt(HARD), database_url) == "strong":
                    return
                await asyncio.sleep(0.1)


async def compare_until(router: Any, *, decisions: int) -> list[pb.PolicyComparison]:
    """The comparison once so many decisions are written."""
    async with asyncio.timeout(10):
        while True:
            rows = (await router.compare_policies(pb.ComparePoliciesRequest(), call())).routes
            if rows and rows[0].decisions >= decisions:
                return list(rows)
            await asyncio.sleep(0.05)


async def shadow_of(router: Any, asked: pb.Prompt, database_url: str) -> str:
    await router.generate(pb.GenerateRequest(prompt=asked), call())
    rows = await read_rows(
        database_url, "select shadow from router.decisions where model <> 'm' order by time desc limit 1"
    )
    return str(rows[0]["shadow"])


async def test_without_a_database_outcomes_are_refused_with_the_setting(double: ProviderDouble) -> None:
    settings = Settings(openai_base_url=double.openai_url)
    async with build(settings) as (binding,), client_of("remote", SERVICE, binding.service) as router:
        with pytest.raises(FailedPrecondition, match="DATABASE_URL"):
            await router.record_outcome(pb.RecordOutcomeRequest(trace_id=TRACE, score=1), call())
