"""Providers' limits as all routers count them together, in Redis: one script to take, one to give back."""

import asyncio
import logging
from typing import Any

from redis.exceptions import RedisError

from services.kit.redis_client import open_redis
from services.router.adapters.redis.guard import Guard
from services.router.domain.catalogue import Limits
from services.router.domain.limits import BUSY_S

GIVE_BACK_TIMEOUT_S = 1.0
MAX_WAITING = 10_000
"""Leases that wait to be given back; more run out by themselves."""
NONE = -1
"""Stands for a limit that is not there."""

# Buckets that are filled in a minute, by the server's clock; leases in a sorted set by the time they run out.
_TAKE = f"""
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local per_minute = {{requests = tonumber(ARGV[1]), tokens = tonumber(ARGV[2])}}
local wanted = {{requests = 1, tokens = math.min(tonumber(ARGV[4]), per_minute.tokens)}}
local saved = redis.call('HMGET', KEYS[1], 'requests', 'tokens', 'at')
local passed = math.max(0, now - (tonumber(saved[3]) or now))
local left, wait = {{}}, 0
for place, kind in ipairs({{'requests', 'tokens'}}) do
  local most = per_minute[kind]
  if most >= 0 then
    left[kind] = math.min(most, (tonumber(saved[place]) or most) + passed * most / 60000)
    if left[kind] < wanted[kind] then
      wait = math.max(wait, (wanted[kind] - left[kind]) * 60000 / most)
    end
  end
end
local places = tonumber(ARGV[3])
if places >= 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
  if redis.call('ZCARD', KEYS[2]) >= places then wait = math.max(wait, {round(BUSY_S * 1000)}) end
end
if wait > 0 then return math.ceil(wait) end
if places >= 0 then
  redis.call('ZADD', KEYS[2], now + ARGV[6], ARGV[5])
  redis.call('PEXPIRE', KEYS[2], ARGV[6])
end
for kind, number in pairs(left) do redis.call('HSET', KEYS[1], kind, number - wanted[kind]) end
redis.call('HSET', KEYS[1], 'at', now)
redis.call('PEXPIRE', KEYS[1], 120000)
return 0
"""

_GIVE_BACK = """
redis.call('ZREM', KEYS[2], ARGV[1])
local tokens = tonumber(redis.call('HGET', KEYS[1], 'tokens'))
if tokens then redis.call('HSET', KEYS[1], 'tokens', math.min(tokens + ARGV[2], tonumber(ARGV[3]))) end
"""

log = logging.getLogger(__name__)


class RedisLimits:
    """`LimitStore` made real.

    Args:
        timeout_s: How long taking may hold a call up.
    """

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._redis = open_redis(url, connect_timeout_s=GIVE_BACK_TIMEOUT_S)
        self._take = self._redis.register_script(_TAKE)
        self._give_back = self._redis.register_script(_GIVE_BACK)
        self._guard = Guard("the count of providers' limits")
        self._waiting: list[tuple[list[str], list[str | int]]] = []
        self._giving_back: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Gives back what still waits, and closes the connections."""
        if self._giving_back is not None:
            await self._giving_back
        await self._redis.aclose()

    async def take(self, deployment: str, limits: Limits, lease: str, tokens: int, lease_s: float) -> float:
        """Takes a request, tokens and a place."""
        arguments = [_or_none(limits.requests_per_minute), _or_none(limits.tokens_per_minute)]
        arguments += [_or_none(limits.concurrent), tokens]
        async with self._guard.within(self._timeout_s):
            try:
                wait_ms: Any = await self._take(
                    keys=_keys(deployment), args=[*arguments, lease, round(lease_s * 1000)]
                )
            except asyncio.CancelledError:
                # Out of time, or given up: nobody knows whether the place was taken, and nobody will use it.
                self.give_back(deployment, limits, lease, 0)
                raise
        return int(wait_ms) / 1000

    def give_back(self, deployment: str, limits: Limits, lease: str, tokens: int) -> None:
        """Gives back soon, together with others."""
        if len(self._waiting) >= MAX_WAITING:
            return
        most = _or_none(limits.tokens_per_minute)
        self._waiting.append((_keys(deployment), [lease, tokens, most]))
        if self._giving_back is None or self._giving_back.done():
            self._giving_back = asyncio.create_task(self._give_all_back())

    async def _give_all_back(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                async with (
                    asyncio.timeout(GIVE_BACK_TIMEOUT_S),
                    self._redis.pipeline(transaction=False) as pipe,
                ):
                    for keys, arguments in batch:
                        await self._give_back(keys=keys, args=arguments, client=pipe)
                    await pipe.execute()
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("leases run out by themselves: %s", type(error).__name__)


def _or_none(limit: int | None) -> int:
    return NONE if limit is None else limit


def _keys(deployment: str) -> list[str]:
    return [f"quartet:{{deployment/{deployment}}}:limits", f"quartet:{{deployment/{deployment}}}:leases"]
