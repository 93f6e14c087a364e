"""Answers to requests with an idempotency key, kept in Redis."""

import asyncio
import hashlib
from typing import Any

from redis.exceptions import RedisError

from services.kit.redis_client import open_redis
from services.router.ports import Record, StoreUnavailableError

CLAIM_S = 20
"""A claim lapses after this time unless it is renewed: its owner is gone then."""
KEEP_S = 24 * 60 * 60
TIMEOUT_S = 2.0

_CLAIM = """
local state = redis.call('HMGET', KEYS[1], 'fingerprint', 'answer')
if state[1] then return state end
redis.call('HSET', KEYS[1], 'fingerprint', ARGV[1], 'owner', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return false
"""
_RENEW = """
if redis.call('HGET', KEYS[1], 'owner') == ARGV[1] then redis.call('EXPIRE', KEYS[1], ARGV[2]) end
"""
_KEEP = """
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'fingerprint', ARGV[1], 'answer', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
"""
_RELEASE = """
if redis.call('HGET', KEYS[1], 'owner') == ARGV[1] then redis.call('DEL', KEYS[1]) end
"""


class RedisAnswers:
    """One hash for each tenant and key.

    `fingerprint`, and `owner` while it is made or `answer` once it is.
    """

    def __init__(self, url: str) -> None:
        self._redis = open_redis(url, connect_timeout_s=TIMEOUT_S)
        self._claim = self._redis.register_script(_CLAIM)
        self._renew = self._redis.register_script(_RENEW)
        self._keep = self._redis.register_script(_KEEP)
        self._release = self._redis.register_script(_RELEASE)

    async def close(self) -> None:
        """Closes the connections."""
        await self._redis.aclose()

    async def claim(self, tenant: str, key: str, fingerprint: str, owner: str) -> Record | None:
        """Claims the key, or returns what is there."""
        state = await self._run(self._claim, tenant, key, fingerprint, owner, CLAIM_S)
        if state is None:
            return None
        return Record(fingerprint=state[0].decode(), answer=state[1])

    async def renew(self, tenant: str, key: str, owner: str) -> None:
        """Prolongs a claim."""
        await self._run(self._renew, tenant, key, owner, CLAIM_S)

    async def keep(self, tenant: str, key: str, fingerprint: str, answer: bytes) -> None:
        """Keeps an answer for a day."""
        await self._run(self._keep, tenant, key, fingerprint, answer, KEEP_S)

    async def release(self, tenant: str, key: str, owner: str) -> None:
        """Gives a claim up."""
        await self._run(self._release, tenant, key, owner)

    async def _run(self, script: Any, tenant: str, key: str, *arguments: str | bytes | int) -> Any:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await script(keys=[_name(tenant, key)], args=arguments)
        except (RedisError, OSError) as error:
            raise StoreUnavailableError(str(error)) from error


def _name(tenant: str, key: str) -> str:
    """Keys are hashed: they come from clients, in any length and alphabet."""
    return f"quartet:{{{tenant}}}:routed:{hashlib.sha256(key.encode()).hexdigest()}"
