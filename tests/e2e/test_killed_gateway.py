"""What becomes of requests with idempotency keys whose gateway is killed: by answers, ledger and limits."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import psycopg
from redis.asyncio import Redis

from tests.doubles.provider import Fault, Match, ProviderDouble
from tests.e2e.stores import database_of, redis_of
from tests.e2e.suite import Suite
from tests.e2e.vitals import limited_key

MODEL, OTHER_MODEL = "gpt-6-luna", "claude-haiku-5-5"
WHOLE, STREAM, RUN = "Name a river, please", "Name a mountain, please", "Who holds shares of Acme, please?"
SLOW_S = 4.0
PAUSE_S = 0.5
_LEDGER = """
select run_id, model, input_tokens + output_tokens from router.ledger
where key_id = %s and model not like 'local/%%'
"""

Answer = tuple[int, str, dict[str, str]]


class Books:
    """What the suite's stores know of one key.

    Args:
        key_id: The key's.
    """

    def __init__(self, connection: psycopg.AsyncConnection[Any], redis: Any, key_id: str) -> None:
        self._connection = connection
        self._redis = redis
        self._key_id = key_id

    async def calls(self) -> list[tuple[str, str, int]]:
        """The ledger's rows: run, model and tokens. What this machine embeds is free, and left out."""
        return await (await self._connection.execute(_LEDGER, (self._key_id,))).fetchall()

    async def has(self, model: str) -> bool:
        return model in [called for _, called, _ in await self.calls()]

    async def agree(self) -> bool:
        return sum(tokens for *_, tokens in await self.calls()) == await self.counted()

    async def counted(self) -> int:
        """The tokens that the key's limit holds for used or reserved."""
        names = [name async for name in self._redis.scan_iter(f"*:quota:key/{self._key_id}:tokens_per_day:*")]
        return sum([int(await self._redis.hget(name, "used")) for name in names])

    async def reserved(self) -> list[bytes]:
        """The open accounts, and the places that are taken."""
        names = ("accounts", f"places:key/{self._key_id}:concurrent_calls")
        return [
            member
            for name in names
            for member in await self._redis.zrange(f"quartet:{{default}}:{name}", 0, -1)
        ]


@asynccontextmanager
async def open_books(suite: Suite, secret: str) -> AsyncIterator[Books]:
    async with (
        await psycopg.AsyncConnection.connect(database_of(suite), autocommit=True) as connection,
        Redis.from_url(redis_of(suite)) as redis,
    ):
        yield Books(connection, redis, secret.rpartition("_")[0])


async def ask(api: aiohttp.ClientSession, question: str, **headers: str) -> Answer:
    """The status of the answer, its text, and its headers by names in lower case."""
    model = {RUN: "agent", STREAM: OTHER_MODEL}.get(question, MODEL)
    messages = [{"role": "user", "content": question}]
    body = {"model": model, "stream": question == STREAM, "messages": messages}
    async with api.post("/v1/chat/completions", json=body, headers=headers) as response:
        text = await response.text()
        return response.status, text, {name.lower(): value for name, value in response.headers.items()}


async def ask_with_key(api: aiohttp.ClientSession, question: str) -> Answer:
    return await ask(api, question, **{"idempotency-key": question.replace(" ", "-")})


async def ask_until_it_ends(api: aiohttp.ClientSession, question: str) -> Answer:
    """As a client does: again while the gateway is away, and after the half of the lost answer."""
    async with asyncio.timeout(60):
        while True:
            try:
                answer = await ask_with_key(api, question)
            except aiohttp.ClientError:
                answer = 0, "", {}
            if answer[0] == 200 and "answer_interrupted" not in answer[1]:
                return answer
            await asyncio.sleep(PAUSE_S)


async def poll(holds: Callable[[], Awaitable[bool]]) -> None:
    while True:
        if await holds():
            return
        await asyncio.sleep(0.1)


def asked(provider: ProviderDouble, question: str) -> int:
    return sum(question in str(request.body) for request in provider.requests)


async def test_runs_go_on_and_other_answers_are_made_again_when_their_gateway_was_killed(
    apart_suite: Suite, provider: ProviderDouble
) -> None:
    secret = await limited_key(apart_suite)
    headers = {"authorization": f"Bearer {secret}"}
    provider.reset()
    provider.script(match=Match(contains=RUN), fault=Fault(delay_s=SLOW_S), times=3)
    provider.script(match=Match(contains=STREAM), fault=Fault(chunk_delay_s=SLOW_S))
    provider.script(match=Match(contains=WHOLE), fault=Fault(delay_s=SLOW_S))
    async with (
        aiohttp.ClientSession(apart_suite.url, headers=headers) as api,
        open_books(apart_suite, secret) as books,
        asyncio.timeout(90),
    ):
        lost = []
        for number, question in enumerate((RUN, STREAM, WHOLE), 1):
            lost.append(asyncio.create_task(ask_with_key(api, question)))
            await provider.wait_calls(number, timeout_s=20)
        gateway = apart_suite.pid("gateway")
        os.kill(gateway, signal.SIGSTOP)
        await poll(lambda: books.has(MODEL))
        # The whole answer is made and paid for now, and the gateway has kept nothing of it.
        os.kill(gateway, signal.SIGKILL)
        begun = asked(provider, RUN)
        for outcome in await asyncio.gather(*lost, return_exceptions=True):
            assert isinstance(outcome, aiohttp.ClientError) or (
                isinstance(outcome, tuple) and outcome[0] == 503
            ), outcome

        answers = await asyncio.gather(*(ask_until_it_ends(api, each) for each in (RUN, STREAM, WHOLE)))
        assert not any("x-quartet-replayed" in headers for _, _, headers in answers)
        assert answers[1][1].endswith("data: [DONE]\n\n")
        assert WHOLE in answers[2][1]
        assert (asked(provider, STREAM), asked(provider, WHOLE)) == (2, 2)
        made = asked(provider, RUN)
        assert made > begun
        again = await ask_with_key(api, RUN)
        assert again[:2] == answers[0][:2]
        assert again[2]["x-quartet-replayed"] == "true"
        assert asked(provider, RUN) == made

        while await books.reserved():  # given back by the openings after their time
            await ask(api, "Name a lake, please")
            await asyncio.sleep(PAUSE_S)
        await poll(books.agree)
        by_run = [run for run, *_ in await books.calls() if run]
        assert len(set(by_run)) == 1
        assert len(by_run) == made
