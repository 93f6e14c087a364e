"""What all services keep of a tenant in Redis: every key with its hash tag."""

import asyncio

from redis.exceptions import RedisError

from services.kit.errors import Unavailable
from services.kit.redis_client import open_redis

TIMEOUT_S = 5.0
SCAN_COUNT = 1000


class RedisTenantEntries:
    """`TenantEntries` made real; a scan looks at every key once, in steps that hold nobody up."""

    def __init__(self, url: str) -> None:
        self._redis = open_redis(url, connect_timeout_s=TIMEOUT_S)

    async def close(self) -> None:
        """Closes the connections."""
        await self._redis.aclose()

    async def delete(self, tenant: str) -> int:
        deleted, cursor = 0, None
        try:
            while cursor != 0:
                async with asyncio.timeout(TIMEOUT_S):
                    cursor, keys = await self._redis.scan(
                        cursor or 0, match=f"quartet:{{{tenant}}}:*", count=SCAN_COUNT
                    )
                    if keys:
                        deleted += await self._redis.unlink(*keys)
        except (RedisError, OSError):
            raise Unavailable(
                "the tenant's entries in Redis cannot be removed now: delete the tenant again in a moment",
                reason="TENANT_DATA_UNAVAILABLE",
                retry_after_s=1.0,
            ) from None
        return deleted
