"""Work on Redis that is cancelled ends, at whatever moment."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import NoReturn

import pytest

from services.gateway.adapters.redis.response_log import RedisResponseLog
from services.gateway.domain.response_entries import Slot
from services.kit.tasks import end
from services.router.adapters.redis.answers import RedisAnswers
from services.router.adapters.redis.cache import RedisCache

MOMENTS = 40
"""Turns of the loop, more than a command has steps."""

Work = Callable[[str], tuple[Callable[[], Awaitable[object]], Callable[[], Awaitable[None]]]]


def of_response_log(url: str) -> tuple[Callable[[], Awaitable[object]], Callable[[], Awaitable[None]]]:
    log = RedisResponseLog(url, claim_timeout_s=5)
    return lambda: log.renew(Slot("acme", "key"), "owner", 1.0), log.close


def of_answers(url: str) -> tuple[Callable[[], Awaitable[object]], Callable[[], Awaitable[None]]]:
    answers = RedisAnswers(url)
    return lambda: answers.renew("acme", "key", "owner"), answers.close


def of_cache(url: str) -> tuple[Callable[[], Awaitable[object]], Callable[[], Awaitable[None]]]:
    cache = RedisCache(url, "cache", timeout_s=5)
    return lambda: cache.get("acme", "name"), cache.close


WORKS: Mapping[str, Work] = {"response log": of_response_log, "answers": of_answers, "cache": of_cache}


async def repeat(command: Callable[[], Awaitable[object]]) -> NoReturn:
    while True:
        await command()


@pytest.mark.parametrize("work", WORKS)
async def test_one_cancellation_ends_it_at_every_moment(redis_url: str, work: str) -> None:
    command, close = WORKS[work](redis_url)
    try:
        await command()
        for turns in range(MOMENTS):
            task = asyncio.create_task(repeat(command))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            done, _ = await asyncio.wait([task], timeout=10.0)
            await end(task)
            assert done, f"after {turns} turns of the loop"
    finally:
        await close()
