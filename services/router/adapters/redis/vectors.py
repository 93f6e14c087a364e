"""Vectors of texts in Redis, each under its tenant's hash tag, and for each tenant no more than its share."""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from services.kit.redis_client import open_redis
from services.router.adapters.redis.guard import Guard

WRITE_TIMEOUT_S = 0.5
TEXTS_PER_TIMEOUT = 256
"""A request of many texts may take longer: its vectors are megabytes."""
MOST_FULL = 0.75
"""Share of Redis' memory above which no more is kept: accounts and limits need the rest."""
FULL_S = 10.0
"""How long nothing is kept then."""
OVERHEAD_BYTES = 350
"""Of a key and of its place in the queue, beside the vector itself; by MEMORY USAGE of Redis 6.2."""

# A queue of what was kept, oldest first, each with the time it expires, its size and its key; and the sum of
# their sizes. What has expired is gone by itself, and may have been kept anew; what must make room is removed
# here. A step takes a bounded number away.
_BOUND = """
local most, ttl, size = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local now = tonumber(redis.call('TIME')[1])
local bytes = tonumber(redis.call('GET', KEYS[2])) or 0
for place = 5, #ARGV do
  redis.call('RPUSH', KEYS[1], string.format('%d %d %s', now + ttl, size, ARGV[place]))
  bytes = bytes + size
end
for _ = 1, 64 + 2 * #ARGV do
  local oldest = redis.call('LINDEX', KEYS[1], 0)
  if not oldest then bytes = 0 break end
  local expires, held, name = oldest:match('^(%d+) (%d+) (.+)$')
  local has_expired = tonumber(expires) <= now
  if bytes <= most and not has_expired then break end
  redis.call('LPOP', KEYS[1])
  if not has_expired then redis.call('UNLINK', name) end
  bytes = math.max(0, bytes - tonumber(held))
end
redis.call('SET', KEYS[2], string.format('%d', bytes))
local lasts = math.max(ttl, redis.call('TTL', KEYS[1]))
redis.call('EXPIRE', KEYS[1], lasts)
redis.call('EXPIRE', KEYS[2], lasts)
local memory = redis.call('INFO', 'memory')
local most_memory = tonumber(memory:match('maxmemory:(%d+)'))
local used = tonumber(memory:match('used_memory:(%d+)'))
if most_memory > 0 and used > most_memory * tonumber(ARGV[4]) then return 1 end
return 0
"""


log = logging.getLogger(__name__)


class RedisVectors:
    """`VectorStore` made real.

    Args:
        timeout_s: Vectors that take longer to find are taken for missing; as long again for each 256 texts.
    """

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._guard = Guard("the cache of vectors")
        self._redis = open_redis(url, connect_timeout_s=WRITE_TIMEOUT_S)
        self._bound = self._redis.register_script(_BOUND)
        self._full_until = 0.0

    async def close(self) -> None:
        """Closes the connections."""
        await self._redis.aclose()

    async def find(self, tenant: str, names: Sequence[str]) -> Sequence[bytes | None]:
        """What is kept under each name, in one round trip."""
        async with self._guard.within(_scale(self._timeout_s, len(names))):
            found: Any = await self._redis.mget([_key(tenant, name) for name in names])
        return [None if data is None else bytes(data) for data in found]

    async def keep(
        self, tenant: str, items: Mapping[str, bytes], *, ttl_s: int, max_tenant_bytes: int
    ) -> None:
        """Keeps items in one pipeline, which makes room for them, too; all are of one size."""
        if time.monotonic() < self._full_until:
            return
        keys = {_key(tenant, name): data for name, data in items.items()}
        size = OVERHEAD_BYTES + max(map(len, items.values()))
        async with (
            self._guard.within(_scale(WRITE_TIMEOUT_S, len(items))),
            self._redis.pipeline(transaction=False) as pipe,
        ):
            for key, data in keys.items():
                pipe.set(key, data, ex=ttl_s)
            queue = f"quartet:{{{tenant}}}:vectors"
            arguments: tuple[str | float, ...] = (max_tenant_bytes, ttl_s, size, MOST_FULL, *keys)
            await self._bound(keys=[queue, f"{queue}:bytes"], args=arguments, client=pipe)
            *_, is_full = await pipe.execute()
        if is_full:
            log.warning("Redis is nearly full: no vectors are kept for a while")
            self._full_until = time.monotonic() + FULL_S


def _scale(timeout_s: float, texts: int) -> float:
    return timeout_s * (1 + texts / TEXTS_PER_TIMEOUT)


def _key(tenant: str, name: str) -> str:
    return f"quartet:{{{tenant}}}:vector:{name}"
