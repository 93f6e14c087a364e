"""Runs of requests with idempotency keys: who asks again finds the run, whatever became of its gateway."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from quartet.common.v1 import generation_pb2, message_pb2, run_pb2
from quartet.orchestrator.v1 import orchestrator_pb2
from quartet.router.v1 import router_pb2
from services.gateway.adapters.redis.response_log import RedisResponseLog
from services.gateway.domain.keys import make_key
from services.gateway.domain.limits import Limits
from services.gateway.domain.response_log import ResponseLog
from services.gateway.settings import Settings as GatewaySettings
from services.gateway.wiring import assemble
from services.kit.accounts.store import Accounts
from services.kit.call import Call
from services.kit.client import local
from services.kit.errors import Unavailable
from services.orchestrator.adapters.postgres.runs import PostgresRuns, open_pool
from services.orchestrator.ports import Charge, Outcome
from services.orchestrator.settings import Settings
from services.orchestrator.wiring import ORCHESTRATOR, PIPELINE, ROUTER, build
from tests.contract.gateway.neighbours import FakeKeys, FakePipeline, FakeRouter
from tests.contract.gateway.test_native import ask
from tests.contract.orchestrator.peers import QuotingRouter, WordPipeline

CORPUS = {"Tarn": "The river Tarn rises in the Vellan hills."}
QUESTION = "Where does the river Tarn rise?"
DAY = timedelta(days=1)


class HeldRouter(QuotingRouter):
    """Answers when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.released = asyncio.Event()

    async def _answer(self, prompt: router_pb2.Prompt) -> generation_pb2.Completion:
        self.waiting.set()
        await self.released.wait()
        return await super()._answer(prompt)


@dataclass(slots=True, kw_only=True)
class Suite:
    """Two gateways in front of one orchestrator."""

    router: HeldRouter
    orchestrator: Any
    redis: Redis
    secret: str
    gateways: list[Any] = field(default_factory=list)
    logs: list[ResponseLog] = field(default_factory=list)

    async def ask(self, gateway: Any) -> Any:
        call = Call.root(timeout_s=60, metadata={"authorization": f"Bearer {self.secret}"})
        return await gateway.generate(ask("agent/default", text=QUESTION, idempotency_key="k"), call)

    async def run_ids(self) -> list[str]:
        call = Call.root(timeout_s=10, tenant="acme")
        listed = await self.orchestrator.list_runs(orchestrator_pb2.ListRunsRequest(), call)
        return [run.id for run in listed.runs]

    async def accounts(self) -> int:
        return len([key async for key in self.redis.scan_iter("quartet:{acme}:account:*")])


@pytest_asyncio.fixture
async def suite(database_url: str, redis_url: str) -> AsyncIterator[Suite]:
    router = HeldRouter()
    key, secret = make_key(tenant="acme", scopes=frozenset({"*"}))
    key = replace(key, limits=Limits(tokens_per_minute=1_000_000, concurrent_calls=9))
    async with AsyncExitStack() as stack:
        stores: dict[str, Any] = {"database_url": database_url, "redis_url": redis_url}
        chosen = Settings(executor_id="test", **stores)
        peers = {ROUTER: router, PIPELINE: WordPipeline(CORPUS)}
        (binding,) = await stack.enter_async_context(build(chosen, peers))
        orchestrator = local(ORCHESTRATOR, binding.service)
        redis = await stack.enter_async_context(Redis.from_url(redis_url))
        suite = Suite(router=router, orchestrator=orchestrator, redis=redis, secret=secret)
        for _ in range(2):
            store = RedisResponseLog(redis_url, claim_timeout_s=5.0)
            stack.push_async_callback(store.close)
            log = ResponseLog(store, max_detached=4, timeout_s=60, max_bytes=100_000)
            stack.push_async_callback(log.close)
            suite.logs.append(log)
            accounts = Accounts(redis_url, timeout_s=5.0)
            stack.push_async_callback(accounts.shut)
            native, *_ = assemble(
                GatewaySettings(),
                FakeKeys(key),
                local(ROUTER, FakeRouter()),
                local(PIPELINE, FakePipeline()),
                orchestrator,
                responses=log,
                accounts=accounts,
            )
            suite.gateways.append(local(native.service_name, native.service))
        yield suite


async def test_a_run_is_found_again_when_its_gateway_is_gone(suite: Suite) -> None:
    asking = asyncio.create_task(suite.ask(suite.gateways[0]))
    await suite.router.waiting.wait()
    await suite.logs[0].close()
    with pytest.raises(Unavailable):
        await asking
    assert await suite.accounts() == 1
    again = asyncio.create_task(suite.ask(suite.gateways[1]))
    suite.router.released.set()
    answer = await again
    assert "Vellan" in answer.completion.message.parts[0].text
    assert await suite.run_ids() == [answer.run.id]
    assert set(suite.router.calls.values()) == {1}
    assert await suite.ask(suite.gateways[0]) == answer
    for _ in range(100):
        if not await suite.accounts():
            break
        await asyncio.sleep(0.05)
    assert await suite.accounts() == 0


@pytest.mark.parametrize(
    ("age", "state", "is_answered", "is_joined"),
    [
        (timedelta(), run_pb2.RUN_STATE_RUNNING, False, True),
        (timedelta(), run_pb2.RUN_STATE_SUCCEEDED, True, True),
        (timedelta(), run_pb2.RUN_STATE_FAILED, False, False),
        (timedelta(), run_pb2.RUN_STATE_CANCELLED, False, False),
        (timedelta(hours=25), run_pb2.RUN_STATE_SUCCEEDED, True, False),
    ],
)
async def test_a_key_joins_its_run_for_a_day_and_while_there_may_be_an_answer(
    database_url: str,
    age: timedelta,
    state: run_pb2.RunState.ValueType,
    is_answered: bool,
    is_joined: bool,
) -> None:
    async with open_pool(database_url, max_size=1, timeout_s=5) as pool:
        runs = PostgresRuns(pool, max_runs_per_tenant=9)

        async def create(run_id: str, joins: timedelta | None = DAY) -> tuple[str, bool]:
            run = run_pb2.Run(id=run_id, state=run_pb2.RUN_STATE_PENDING, last_event_number=1)
            run.create_time.FromDatetime(datetime.now(UTC) - (age if run_id == "first" else timedelta()))
            charge = Charge(run=run, tenant="acme", key_id="k", deadline=datetime.now(UTC) + DAY)
            stored, created = await runs.create(charge, idempotency_key="a", joins=joins, executor="x")
            return stored.id, created

        assert await create("first") == ("first", True)
        run = await runs.get("acme", "first")
        run.state = state
        if is_answered:
            part = message_pb2.Part(text="Yes.")
            run.completion.message.MergeFrom(message_pb2.Message(parts=[part]))
        await runs.record(run, 2, Outcome(event=run_pb2.RunEvent(number=2)))
        assert await create("started", joins=None) == ("first", False)
        assert await create("second") == (("first", False) if is_joined else ("second", True))
        assert await create("third") == (("first", False) if is_joined else ("second", False))
