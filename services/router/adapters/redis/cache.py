"""What tenants may use again, in Redis; each under its tenant's hash tag and its own time to live."""

from services.kit.redis_client import open_redis
from services.router.adapters.redis.guard import Guard
from services.router.adapters.redis.reader import RedisReader

WRITE_TIMEOUT_S = 2.0


class RedisCache:
    """`TenantCache` made real.

    Args:
        kind: What is kept, as it stands in the keys: `cache` for answers, `session`.
        timeout_s: What takes longer to find is taken for missing.
        write_timeout_s: What takes longer to write is lost.
    """

    def __init__(
        self, url: str, kind: str, *, timeout_s: float, write_timeout_s: float = WRITE_TIMEOUT_S
    ) -> None:
        self._kind = kind
        self._write_timeout_s = write_timeout_s
        self._guard = Guard(f"the {kind} in Redis")
        self._reader = RedisReader(url, timeout_s=timeout_s)
        self._redis = open_redis(url, connect_timeout_s=write_timeout_s)

    async def close(self) -> None:
        """Closes the connections."""
        await self._reader.close()
        await self._redis.aclose()

    async def get(self, tenant: str, name: str) -> bytes | None:
        """What is kept under a name."""
        with self._guard:
            return await self._reader.get(self._key(tenant, name).encode())

    async def put(self, tenant: str, name: str, data: bytes, *, ttl_s: int) -> None:
        """Keeps it."""
        async with self._guard.within(self._write_timeout_s):
            await self._redis.set(self._key(tenant, name), data, ex=ttl_s)

    def _key(self, tenant: str, name: str) -> str:
        return f"quartet:{{{tenant}}}:{self._kind}:{name}"
