"""The response log in Redis: a stream for each tenant and idempotency key."""

import asyncio
import hashlib
from collections.abc import Awaitable, Mapping
from typing import Any

from redis.exceptions import RedisError

from services.gateway.domain.response_entries import Entry, Kind, Slot, StoreUnavailableError, pack, unpack
from services.kit.redis_client import open_redis

READ_ENTRIES = 16
MAX_CONNECTIONS = 32
WRITE_TIMEOUT_S = 1.0
"""Of everything but a claim: nobody is kept waiting for a decision meanwhile."""

# The first entry holds, in this order, `k` kind, `f` fingerprint ([2][4]), `o` owner ([2][6]). Others hold
# `k`, `n` the number of the first message, `m` the messages. Trimmed rather than deleted, a stream's ids rise
# on, so that whoever followed the old entries sees the new ones.
_CLAIM = """
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if last and last[2][2] ~= 'f' then
  return redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1][2][4]
end
redis.call('XTRIM', KEYS[1], 'MAXLEN', 0)
redis.call('XADD', KEYS[1], '*', 'k', 'c', 'f', ARGV[1], 'o', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return false
"""
_OWNED = """
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
if not first or first[2][6] ~= ARGV[1] then return 0 end
"""
_APPEND = (
    _OWNED
    + """
if ARGV[3] == 'x' then
  redis.call('XTRIM', KEYS[1], 'MAXLEN', 0)
  redis.call('XADD', KEYS[1], '*', 'k', 'x', 'f', first[2][4], 'o', ARGV[1])
else
  redis.call('XADD', KEYS[1], '*', 'k', ARGV[3], 'n', ARGV[4], 'm', ARGV[5])
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
"""
)
_RENEW = _OWNED + "return redis.call('PEXPIRE', KEYS[1], ARGV[2])"
_RELEASE = _OWNED + "return redis.call('DEL', KEYS[1])"


class RedisResponseLog:
    """Keeps answers in Redis 6.2 or later.

    Args:
        claim_timeout_s: The longest that a request waits to learn that the store is down.
    """

    def __init__(self, url: str, *, claim_timeout_s: float) -> None:
        self._redis = open_redis(
            url,
            connect_timeout_s=WRITE_TIMEOUT_S,
            max_connections=MAX_CONNECTIONS,
            wait_s=WRITE_TIMEOUT_S,
        )
        self._claim_timeout_s = claim_timeout_s
        self._claim = self._redis.register_script(_CLAIM)
        self._append = self._redis.register_script(_APPEND)
        self._renew = self._redis.register_script(_RENEW)
        self._release = self._redis.register_script(_RELEASE)

    async def close(self) -> None:
        """Closes the connections."""
        await self._redis.aclose()

    async def claim(self, slot: Slot, fingerprint: str, owner: str, lapse_s: float) -> str | None:
        """Claims the key, or returns the fingerprint of what is there."""
        arguments = (fingerprint, owner, _ms(lapse_s))
        holder = await _within(self._claim_timeout_s, self._claim(keys=[_name(slot)], args=arguments))
        return None if holder is None else str(holder, "ascii")

    async def append(
        self,
        slot: Slot,
        owner: str,
        kind: Kind,
        *,
        start: int,
        messages: tuple[bytes, ...],
        expire_s: float,
    ) -> bool:
        """Adds an entry; False when the key is not the owner's any more."""
        arguments = (owner, _ms(expire_s), kind.value, start, pack(messages))
        return bool(await _within(WRITE_TIMEOUT_S, self._append(keys=[_name(slot)], args=arguments)))

    async def renew(self, slot: Slot, owner: str, expire_s: float) -> bool:
        """Prolongs what is there; False when the key is not the owner's any more."""
        arguments = (owner, _ms(expire_s))
        return bool(await _within(WRITE_TIMEOUT_S, self._renew(keys=[_name(slot)], args=arguments)))

    async def release(self, slot: Slot, owner: str) -> None:
        """Gives a claim up."""
        await _within(WRITE_TIMEOUT_S, self._release(keys=[_name(slot)], args=(owner,)))

    async def read(self, slot: Slot, cursor: str) -> list[Entry] | None:
        """Some of the entries behind the cursor; None when there is nothing of that key at all."""
        name = _name(slot)
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.xrange(name, f"({cursor}" if cursor else "-", "+", count=READ_ENTRIES)
            pipeline.exists(name)
            entries, exists = await _within(WRITE_TIMEOUT_S, pipeline.execute())
        return [_entry(cursor, fields) for cursor, fields in entries] if exists else None


async def _within(timeout_s: float, command: Awaitable[Any]) -> Any:
    try:
        async with asyncio.timeout(timeout_s):
            return await command
    except (RedisError, OSError) as error:
        raise StoreUnavailableError(str(error) or type(error).__name__) from error


def _entry(cursor: bytes, fields: Mapping[bytes, bytes]) -> Entry:
    return Entry(
        kind=Kind(str(fields[b"k"], "ascii")),
        cursor=str(cursor, "ascii"),
        owner=str(fields.get(b"o", b""), "ascii"),
        fingerprint=str(fields.get(b"f", b""), "ascii"),
        start=int(fields.get(b"n", 0)),
        messages=tuple(unpack(fields.get(b"m", b""))),
    )


def _name(slot: Slot) -> str:
    """Keys are hashed: they come from clients, in any length and alphabet."""
    return f"quartet:{{{slot.tenant}}}:answer:{hashlib.sha256(slot.key.encode()).hexdigest()}"


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
