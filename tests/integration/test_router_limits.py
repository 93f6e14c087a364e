"""Providers' limits as several routers count them together in Redis."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from services.router.adapters.redis.limits import RedisLimits
from services.router.domain.catalogue import Limits
from services.router.domain.limits import Gate, Lease


@pytest_asyncio.fixture
async def stores(redis_url: str) -> AsyncIterator[list[RedisLimits]]:
    """Those of two routers."""
    stores = [RedisLimits(redis_url, timeout_s=2) for _ in range(2)]
    yield stores
    for store in stores:
        await store.close()


@pytest.fixture
def gates(stores: list[RedisLimits]) -> list[Gate]:
    return [Gate(store) for store in stores]


async def test_routers_together_let_no_more_through_than_the_limit(gates: list[Gate]) -> None:
    limits = Limits(requests_per_minute=10)
    entered = await asyncio.gather(*(gates[n % 2].enter("openai/a", limits, 1, 10) for n in range(30)))
    assert sum(isinstance(each, Lease) for each in entered) == 10
    waits = [each for each in entered if isinstance(each, float)]
    assert all(0 < wait_s <= 6 for wait_s in waits)
    assert isinstance(await gates[0].enter("openai/b", limits, 1, 10), Lease), "another one's limits"


async def test_unused_tokens_come_back_for_all(gates: list[Gate], stores: list[RedisLimits]) -> None:
    limits = Limits(tokens_per_minute=100)
    lease = await gates[0].enter("openai/a", limits, 100, 10)
    assert isinstance(lease, Lease)
    assert isinstance(await gates[1].enter("openai/a", limits, 60, 10), float)
    gates[0].leave(lease, 30)
    await stores[0].close()
    assert isinstance(await gates[1].enter("openai/a", limits, 60, 10), Lease)


async def test_places_come_back_when_a_call_ends_and_when_its_router_was_lost(
    gates: list[Gate], stores: list[RedisLimits], redis_url: str
) -> None:
    limits = Limits(concurrent=2)
    assert await stores[0].take("openai/a", limits, "of a lost router", 1, 600) == 0
    lease = await gates[0].enter("openai/a", limits, 1, 10)
    assert isinstance(lease, Lease)
    assert isinstance(await gates[1].enter("openai/a", limits, 1, 10), float)
    gates[0].leave(lease, 1)
    await stores[0].close()
    assert isinstance(await gates[1].enter("openai/a", limits, 1, 10), Lease)
    assert isinstance(await gates[1].enter("openai/a", limits, 1, 10), float)
    async with Redis.from_url(redis_url) as redis:
        # As though its time had come.
        await redis.zadd("quartet:{deployment/openai/a}:leases", {"of a lost router": 1})
    assert isinstance(await gates[1].enter("openai/a", limits, 1, 10), Lease)


async def test_a_redis_that_says_nothing_soon_holds_no_call_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = RedisLimits(f"redis://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.05)
        gate = Gate(store, share=0.5)
        entered = [await gate.enter("openai/a", Limits(requests_per_minute=4), 1, 10) for _ in range(60)]
        assert sum(isinstance(each, Lease) for each in entered) == 2, "its share"
        await store.close()
        assert count_connections(silent) < 30, "each that was late had one of its own"


def count_connections(server: socket.socket) -> int:
    """How often somebody connected."""
    server.setblocking(False)
    count = 0
    with suppress(BlockingIOError):
        while True:
            server.accept()[0].close()
            count += 1
    return count


class Unheard(RedisLimits):
    """Takes, and never hears of it."""

    def __init__(self, url: str) -> None:
        super().__init__(url, timeout_s=60)
        self.took = asyncio.Event()
        take = self._take

        async def take_unheard(keys: Any, args: Any) -> None:
            await take(keys=keys, args=args)
            self.took.set()
            await asyncio.Event().wait()

        self._take: Any = take_unheard


async def test_a_place_whose_taker_gave_up_meanwhile_comes_back(redis_url: str, gates: list[Gate]) -> None:
    limits = Limits(concurrent=1)
    store = Unheard(redis_url)
    entering = asyncio.create_task(Gate(store).enter("openai/a", limits, 1, 600))
    await store.took.wait()
    assert isinstance(await gates[0].enter("openai/a", limits, 1, 600), float)
    entering.cancel()
    await asyncio.wait([entering])
    await store.close()
    assert isinstance(await gates[0].enter("openai/a", limits, 1, 600), Lease)
