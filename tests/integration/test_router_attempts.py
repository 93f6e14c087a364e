"""A request of several calls, as the ledger in a real PostgreSQL has it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from quartet.common.v1 import message_pb2 as message
from quartet.router.v1 import router_pb2 as pb
from services.kit.call import Call
from services.router.settings import Settings
from services.router.wiring import build
from tests.databases import read_rows
from tests.doubles.provider import Fault, ProviderDouble, Reply

CONFIG = Path(__file__).parents[2] / "config"
CHEAP, STRONG, OTHER = "gpt-6-luna", "gpt-6.1-sol", "claude-opus-5-5"
Serve = Callable[..., AbstractAsyncContextManager[Any]]


@pytest.fixture
def serve(double: ProviderDouble, database_url: str, tmp_path: Path) -> Serve:
    """A router whose route `complex` is as given; what it owes is written at the end."""

    @asynccontextmanager
    async def serving(**route: Any) -> AsyncIterator[Any]:
        routes = yaml.safe_load((CONFIG / "routes.yaml").read_text(encoding="utf-8"))
        shipped = next(each for each in routes["routes"] if each["name"] == "complex")
        for name in ("cheaper", "shadow"):
            shipped.pop(name)
        shipped.update(candidates=[STRONG, OTHER], **route)
        (tmp_path / "routes.yaml").write_text(yaml.safe_dump(routes), encoding="utf-8")
        (tmp_path / "models.yaml").write_bytes((CONFIG / "models.yaml").read_bytes())
        settings = Settings(
            config_dir=tmp_path,
            openai_base_url=double.openai_url,
            anthropic_base_url=double.url,
            database_url=database_url,
        )
        async with build(settings) as (binding,):
            yield binding.service

    return serving


async def ask(service: Any, *, streamed: bool) -> Any:
    """The completion of a request to the route."""
    turn = message.Message(role=message.ROLE_USER, parts=[message.Part(text="Is it so?")])
    prompt = pb.Prompt(messages=[turn], input_tokens=1000)
    prompt.target.route = "complex"
    call = Call.root(timeout_s=20, tenant="acme")
    if not streamed:
        return (await service.generate(pb.GenerateRequest(prompt=prompt), call)).completion
    request = pb.StreamGenerateRequest(prompt=prompt)
    return [event async for event in service.stream_generate(request, call)][-1].end


async def read_ledger(url: str) -> dict[str, dict[str, Any]]:
    """The rows by their model; there is one for each."""
    rows = await read_rows(url, "select * from router.ledger")
    by_model = {row["model"]: row for row in rows}
    assert len(by_model) == len(rows)
    return by_model


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_who_loses_a_race_is_booked_with_what_it_read(
    serve: Serve, double: ProviderDouble, database_url: str, streamed: bool
) -> None:
    double.script(match=STRONG, fault=Fault(hang_after_chunks=0), times=None)
    async with serve(hedge={"after_ms": 100}) as service:
        completion = await ask(service, streamed=streamed)
        assert (completion.model, completion.usage.model_calls) == (OTHER, 2)
        await double.wait_disconnects(1)
    rows = await read_ledger(database_url)
    loser, winner = rows[STRONG], rows[OTHER]
    assert (loser["status"], loser["estimated"], loser["input_tokens"]) == ("CANCELLED", True, 1000)
    assert loser["cost_micro_usd"] == 2000
    assert loser["baseline_micro_usd"] == 0
    assert (winner["status"], winner["route"]) == ("OK", "complex")


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_draft_that_is_thrown_away_is_a_loss(
    serve: Serve, double: ProviderDouble, database_url: str, streamed: bool
) -> None:
    double.script(match=CHEAP, reply=Reply(text="I'm not sure."))
    async with serve(cheaper=[CHEAP], cascade={}) as service:
        completion = await ask(service, streamed=streamed)
        assert completion.model == STRONG
    rows = await read_ledger(database_url)
    draft, answer = rows[CHEAP], rows[STRONG]
    assert draft["status"] == answer["status"] == "OK"
    spent = draft["cost_micro_usd"] + answer["cost_micro_usd"]
    assert completion.usage.cost_micro_usd == spent
    # The answer is the baseline's own, so that all that was lost is the draft.
    compared = draft["baseline_micro_usd"] + answer["baseline_micro_usd"]
    assert compared - spent == -draft["cost_micro_usd"]


async def test_a_retry_has_a_row_of_its_own(serve: Serve, double: ProviderDouble, database_url: str) -> None:
    double.script(match=STRONG, fault=Fault(status=500))
    async with serve() as service:
        await asyncio.wait_for(ask(service, streamed=False), 10)
    rows = await read_rows(database_url, "select status, cost_micro_usd > 0 as paid from router.ledger")
    assert {(row["status"], row["paid"]) for row in rows} == {("PROVIDER_UNAVAILABLE", False), ("OK", True)}
