"""Answers that may be given again, in Redis; each under its tenant's hash tag and its own time to live."""

from typing import Any

from redis import asyncio as redis

from services.router.adapters.redis.guard import Guard

WRITE_TIMEOUT_S = 2.0


class RedisCache:
    """`AnswerCache` made real.

    Args:
        timeout_s: An answer that takes longer to find is taken for missing.
    """

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._guard = Guard("the answer cache")
        self._redis = redis.Redis.from_url(
            url,
            socket_timeout=WRITE_TIMEOUT_S,
            socket_connect_timeout=WRITE_TIMEOUT_S,
            max_connections=64,
        )

    async def close(self) -> None:
        """Closes the connections."""
        await self._redis.aclose()

    async def get(self, tenant: str, name: str) -> bytes | None:
        """The answer of a name."""
        async with self._guard.within(self._timeout_s):
            data: Any = await self._redis.get(_key(tenant, name))
        return None if data is None else bytes(data)

    async def put(self, tenant: str, name: str, data: bytes, *, ttl_s: int) -> None:
        """Keeps an answer."""
        async with self._guard.within(WRITE_TIMEOUT_S):
            await self._redis.set(_key(tenant, name), data, ex=ttl_s)


def _key(tenant: str, name: str) -> str:
    return f"quartet:{{{tenant}}}:cache:{name}"
