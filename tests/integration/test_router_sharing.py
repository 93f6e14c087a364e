"""Who pays for an answer that several share: accounts in a real Redis, the ledger in a real PostgreSQL."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio

from quartet.common.v1 import message_pb2
from quartet.common.v1.generation_pb2 import Budget
from quartet.router.v1 import router_pb2 as pb
from services.kit.accounts.account import NOTHING, Amount, Caps, Kind, Limit
from services.kit.accounts.store import Accounts
from services.kit.call import Call
from services.kit.errors import ResourceExhausted
from services.router.settings import Settings
from services.router.wiring import build
from tests.cascades import CHEAP, STRONG, Heard, configure, hear
from tests.databases import read_rows
from tests.doubles.provider import Fault, ProviderDouble, Reply

QUESTION = "What is the capital of France?"
ANSWER = f"You said: {QUESTION}"
MOST, RESERVED = 100_000, 5_000
"""Tokens that a key may use in a minute, and of each request."""
SLOW = Fault(delay_s=0.7)

pytestmark = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


@pytest_asyncio.fixture(scope="module")
async def service(
    provider: ProviderDouble,
    redis_server: str,
    module_database: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Any]:
    settings = Settings(
        config_dir=configure(tmp_path_factory.mktemp("config")),
        openai_base_url=provider.openai_url,
        redis_url=redis_server,
        database_url=module_database,
        cache_timeout_s=5.0,
        max_retries=1,
        min_retries_per_s=1000,
        breaker_failures=1000,
        breaker_min_calls=100_000,
    )
    async with build(settings) as (binding,):
        yield binding.service


@dataclass
class Bank:
    """The keys of a tenant, each with a limit of its own, and the ledger."""

    accounts: Accounts
    database: str
    tenant: str = field(default_factory=lambda: f"tenant-{secrets.token_hex(6)}")

    def limit(self, key: str) -> Limit:
        return Limit(name="tokens_per_minute", subject=f"key/{key}", kind=Kind.TOKENS, most=MOST)

    async def open(self, key: str, caps: Caps | None = None) -> str:
        amount = Amount(tokens=RESERVED)
        return (await self.accounts.open(self.tenant, [self.limit(key)], amount, caps or Caps()))[0]

    async def close(self, account: str) -> None:
        self.accounts.close(self.tenant, account)
        await self.accounts.flush()

    async def used(self, key: str) -> int:
        """What is booked or reserved of a key's limit, asked by an account that wants nothing."""
        account, (standing,) = await self.accounts.open(self.tenant, [self.limit(key)], NOTHING, Caps())
        await self.close(account)
        return standing.used

    async def rows(self, count: int) -> list[dict[str, Any]]:
        """The tenant's rows in the ledger, once there are so many."""
        async with asyncio.timeout(10):
            while True:
                rows = await read_rows(self.database, "select * from router.ledger order by time")
                rows = [row for row in rows if row["tenant"] == self.tenant]
                if len(rows) >= count:
                    return rows
                await asyncio.sleep(0.05)

    async def settled(self, key: str, tokens: int) -> int:
        """What is booked of a key's limit, once it is so much, or after a while."""
        with suppress(TimeoutError):
            async with asyncio.timeout(5):
                while True:
                    if await self.used(key) == tokens:
                        break
                    await asyncio.sleep(0.02)
        return await self.used(key)


@pytest_asyncio.fixture
async def bank(redis_server: str, module_database: str) -> AsyncIterator[Bank]:
    accounts = Accounts(redis_server, ttl_s=60, timeout_s=5.0)
    await accounts.start()
    yield Bank(accounts=accounts, database=module_database)
    await accounts.shut()


@dataclass
class Client:
    """Asks the same as all others, by a key and an account of its own."""

    service: Any
    bank: Bank
    streamed: bool

    async def ask(self, key: str, account: str, *, route: str = "", **bounds: int) -> Heard:
        turn = message_pb2.Message(role=message_pb2.ROLE_USER, parts=[message_pb2.Part(text=QUESTION)])
        target = pb.Target(route=route) if route else pb.Target(model=STRONG)
        budget = Budget(account_id=account, **bounds)
        prompt = pb.Prompt(messages=[turn], target=target, budget=budget, input_tokens=10)
        prompt.spec.temperature = 0
        call = Call.root(timeout_s=20, tenant=self.bank.tenant, key_id=key)
        return await hear(self.service, prompt, call, streamed=self.streamed)

    async def begin(self, key: str, account: str, **options: Any) -> "asyncio.Task[Heard]":
        """Asks; the request has begun an answer, or reads one, when this returns."""
        task = asyncio.create_task(self.ask(key, account, **options))
        # Nothing but Redis is waited for on the way.
        for _ in range(100):
            await asyncio.sleep(0)
        return task


@pytest.fixture
def client(service: Any, bank: Bank, streamed: bool) -> Client:
    return Client(service=service, bank=bank, streamed=streamed)


async def leave(*tasks: "asyncio.Task[Heard]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def tokens_of(row: dict[str, Any]) -> int:
    return int(row["input_tokens"] + row["output_tokens"])


async def test_who_began_it_pays_and_who_shares_it_pays_nothing(
    client: Client, bank: Bank, reset_provider: ProviderDouble
) -> None:
    reset_provider.script(fault=SLOW, times=None)
    first, second = await bank.open("a"), await bank.open("b")
    leader = await client.begin("a", first)
    await reset_provider.wait_calls(1)
    follower = await client.begin("b", second)
    paid, shared = await asyncio.gather(leader, follower)
    assert (paid.cache, shared.cache, reset_provider.calls()) == ("miss", "coalesced", 1)
    assert (shared.usage.cost_micro_usd, shared.usage.model_calls) == (0, 0)
    for account in (first, second):
        await bank.close(account)
    row, free = await bank.rows(2)
    assert [(each["key_id"], each["cache"]) for each in (row, free)] == [("a", "miss"), ("b", "coalesced")]
    assert (free["cost_micro_usd"], free["baseline_micro_usd"]) == (0, 0)
    assert await bank.settled("a", tokens_of(row)) == tokens_of(row) > 0
    assert await bank.used("b") == 0


async def test_what_was_begun_for_one_who_left_is_settled_on_his_closed_account(
    client: Client, bank: Bank, reset_provider: ProviderDouble
) -> None:
    reset_provider.script(fault=SLOW, times=None)
    first, second = await bank.open("a"), await bank.open("b")
    leader = await client.begin("a", first)
    await reset_provider.wait_calls(1)
    follower = await client.begin("b", second)
    await leave(leader)
    # As the gateway does when its client is gone.
    await bank.close(first)
    assert await bank.used("a") > 0, "what is drawn was given back before it was known"
    assert (await follower).text == ANSWER
    await bank.close(second)
    row, _ = await bank.rows(2)
    assert (row["key_id"], row["status"]) == ("a", "OK")
    assert await bank.settled("a", tokens_of(row)) == tokens_of(row)
    assert await bank.used("b") == 0


async def test_what_begins_after_he_left_is_paid_for_by_who_is_left(
    client: Client, bank: Bank, reset_provider: ProviderDouble
) -> None:
    reset_provider.script(match=CHEAP, reply=Reply(text="I'm not sure."), fault=SLOW, times=None)
    first, second = await bank.open("a"), await bank.open("b")
    leader = await client.begin("a", first, route="complex")
    await reset_provider.wait_calls(1)
    follower = await client.begin("b", second, route="complex")
    await leave(leader)
    await bank.close(first)
    assert (await follower).answered == STRONG
    await bank.close(second)
    draft, strong, _ = await bank.rows(3)
    assert [(row["key_id"], row["model"]) for row in (draft, strong)] == [("a", CHEAP), ("b", STRONG)]
    assert await bank.settled("a", tokens_of(draft)) == tokens_of(draft)
    assert await bank.settled("b", tokens_of(strong)) == tokens_of(strong)


async def test_one_whose_budget_ends_fails_alone_and_the_others_go_on_together(
    client: Client, bank: Bank, reset_provider: ProviderDouble
) -> None:
    # The first try fails, and his budget has no second one.
    reset_provider.script(fault=Fault(delay_s=0.7, status=500))
    leader = await client.begin("a", await bank.open("a"), max_model_calls=1)
    await reset_provider.wait_calls(1)
    followers = [await client.begin(key, await bank.open(key)) for key in "bcd"]
    reset_provider.script(fault=SLOW, times=None)
    with pytest.raises(ResourceExhausted):
        await leader
    heard = await asyncio.gather(*followers)
    assert {one.text for one in heard} == {ANSWER}
    assert sorted(one.cache for one in heard) == ["coalesced", "coalesced", "miss"]
    assert reset_provider.calls() == 2


async def test_a_budget_that_cuts_an_answer_short_cuts_nobody_elses(
    client: Client, bank: Bank, reset_provider: ProviderDouble
) -> None:
    reset_provider.script(fault=SLOW, times=None)
    poor = await client.begin("a", await bank.open("a"), max_tokens=12)
    await reset_provider.wait_calls(1)
    rich = await client.begin("b", await bank.open("b"))
    cut, whole = await asyncio.gather(poor, rich)
    assert whole.text == ANSWER
    assert len(cut.text) < len(ANSWER)
    assert (cut.cache, whole.cache, reset_provider.calls()) == ("miss", "miss", 2)


async def test_a_doubtful_answer_is_given_to_him_alone_whose_account_has_no_more(
    client: Client, bank: Bank, reset_provider: ProviderDouble
) -> None:
    reset_provider.script(match=CHEAP, reply=Reply(text="I'm not sure."), fault=SLOW, times=None)
    poor = await client.begin("a", await bank.open("a", Caps(model_calls=1)), route="complex")
    await reset_provider.wait_calls(1)
    rich = await client.begin("b", await bank.open("b"), route="complex")
    doubtful, sure = await asyncio.gather(poor, rich)
    assert (doubtful.answered, sure.answered, sure.cache) == (CHEAP, STRONG, "miss")
    assert "did not pass its check" in doubtful.warnings[-1]
    assert (reset_provider.calls(model=CHEAP), reset_provider.calls(model=STRONG)) == (2, 1)
