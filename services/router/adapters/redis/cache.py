"""Answers that may be given again, in Redis; each under its tenant's hash tag and its own time to live."""

import asyncio
import logging
import time
from typing import Any

from redis import asyncio as redis
from redis.exceptions import RedisError

from services.router.ports import StoreUnavailableError

WRITE_TIMEOUT_S = 2.0
REST_S = 1.0
"""After a failure the cache is not asked for this long."""

log = logging.getLogger(__name__)


class RedisCache:
    """`AnswerCache` made real.

    Args:
        timeout_s: An answer that takes longer to find is taken for missing.
    """

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._redis = redis.Redis.from_url(
            url,
            socket_timeout=WRITE_TIMEOUT_S,
            socket_connect_timeout=WRITE_TIMEOUT_S,
            max_connections=64,
        )
        self._rests_until = 0.0

    async def close(self) -> None:
        """Closes the connections."""
        await self._redis.aclose()

    async def get(self, tenant: str, name: str) -> bytes | None:
        """The answer of a name."""
        self._check()
        try:
            async with asyncio.timeout(self._timeout_s):
                data: Any = await self._redis.get(_key(tenant, name))
        except (RedisError, OSError, TimeoutError) as error:
            raise self._rest(error) from error
        return None if data is None else bytes(data)

    async def put(self, tenant: str, name: str, data: bytes, *, ttl_s: int) -> None:
        """Keeps an answer."""
        self._check()
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await self._redis.set(_key(tenant, name), data, ex=ttl_s)
        except (RedisError, OSError, TimeoutError) as error:
            raise self._rest(error) from error

    def _check(self) -> None:
        if time.monotonic() < self._rests_until:
            raise StoreUnavailableError("the answer cache did not answer a moment ago")

    def _rest(self, error: Exception) -> StoreUnavailableError:
        log.warning("the answer cache cannot be reached: %s", type(error).__name__)
        self._rests_until = time.monotonic() + REST_S
        return StoreUnavailableError(str(error))


def _key(tenant: str, name: str) -> str:
    return f"quartet:{{{tenant}}}:cache:{name}"
