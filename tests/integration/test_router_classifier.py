"""What naming routes by a model costs, in a real ledger and from a real account."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from psycopg.rows import dict_row

from quartet.common.v1 import message_pb2 as message
from quartet.common.v1.generation_pb2 import Budget
from quartet.router.v1 import router_pb2 as pb
from services.kit.accounts.account import Amount, Caps
from services.kit.accounts.store import Accounts
from services.kit.call import Call
from services.kit.errors import ResourceExhausted
from services.router.settings import Settings
from services.router.wiring import build
from tests.doubles.provider import Fault, ProviderDouble, Reply

CONFIG = Path(__file__).parents[2] / "config"
NAMER, STRONG = "gpt-6-luna", "gpt-6.1-sol"
POEM = "The old lighthouse keeper dreamt of snow and of a city that nobody had ever seen."


@pytest.fixture
def settings(tmp_path: Path, database_url: str, redis_url: str) -> dict[str, Any]:
    routes = yaml.safe_load((CONFIG / "routes.yaml").read_text(encoding="utf-8"))
    routes["classifier"]["llm"] = {"model": NAMER, "below": 1.0, "timeout_ms": 300}
    (tmp_path / "routes.yaml").write_text(yaml.safe_dump(routes), encoding="utf-8")
    (tmp_path / "models.yaml").write_bytes((CONFIG / "models.yaml").read_bytes())
    return {
        "config_dir": tmp_path,
        "database_url": database_url,
        "redis_url": redis_url,
        "account_timeout_s": 5.0,
        "max_retries": 0,
        # Without the local embedder, which nothing here asks.
        "artifacts_dir": tmp_path,
    }


@asynccontextmanager
async def serve(double: ProviderDouble, settings: dict[str, Any]) -> AsyncIterator[Any]:
    async with build(Settings(openai_base_url=double.openai_url, **settings)) as (binding,):
        yield binding.service


def prompt(text: str, account: str = "") -> pb.GenerateRequest:
    turn = message.Message(role=message.ROLE_USER, parts=[message.Part(text=text)])
    return pb.GenerateRequest(prompt=pb.Prompt(messages=[turn], budget=Budget(account_id=account)))


def call() -> Call:
    return Call.root(timeout_s=20, tenant="acme")


async def read_ledger(url: str) -> list[dict[str, Any]]:
    async with await psycopg.AsyncConnection.connect(url, row_factory=dict_row) as connection:
        cursor = await connection.execute("select * from router.ledger order by time")
        return await cursor.fetchall()


async def test_a_question_is_a_row_of_its_own_and_a_loss(settings: dict[str, Any], database_url: str) -> None:
    async with ProviderDouble() as double:
        double.script(match=NAMER, reply=Reply(text="complex"))
        double.script(match=NAMER, fault=Fault(delay_s=30))
        async with serve(double, settings) as router:
            named = await router.generate(prompt("Snow fell on the lighthouse."), call())
            await router.generate(prompt(POEM), call())
        await double.wait_disconnects(1)
    question, answer, slow, other = await read_ledger(database_url)
    for row in (question, slow):
        assert (row["operation"], row["model"], row["route"]) == ("classifier", NAMER, "complex")
        assert row["cost_micro_usd"] > 0
        assert row["baseline_micro_usd"] == 0
    assert (question["status"], slow["status"], slow["estimated"]) == ("OK", "CANCELLED", True)
    assert (answer["operation"], answer["model"]) == (other["operation"], other["model"]) == ("chat", STRONG)
    assert named.completion.usage.cost_micro_usd == question["cost_micro_usd"] + answer["cost_micro_usd"]
    # The answers are the baseline's own, so that all that was lost are the questions.
    rows = (question, answer, slow, other)
    saved = sum(row["baseline_micro_usd"] - row["cost_micro_usd"] for row in rows)
    assert saved == -(question["cost_micro_usd"] + slow["cost_micro_usd"])


async def test_a_question_draws_from_the_requests_account(settings: dict[str, Any], redis_url: str) -> None:
    accounts = Accounts(redis_url, ttl_s=60, timeout_s=5.0)
    await accounts.start()
    try:
        async with ProviderDouble() as double:
            double.script(match=NAMER, reply=Reply(text="complex"), times=None)
            account, _ = await accounts.open("acme", (), Amount(), Caps(model_calls=3))
            async with serve(double, settings) as router:
                await router.generate(prompt("Snow fell on the lighthouse.", account), call())
                with pytest.raises(ResourceExhausted) as caught:
                    await router.generate(prompt(POEM, account), call())
            assert (double.calls(model=NAMER), double.calls(model=STRONG)) == (2, 1)
        assert caught.value.reason == "BUDGET_EXHAUSTED"
    finally:
        await accounts.shut()
