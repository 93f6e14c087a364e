"""Keeps a Redis that is slow or away from holding requests up."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType

from redis.exceptions import RedisError

from services.router.ports import StoreUnavailableError

REST_S = 1.0
"""Nothing is asked for so long after a failure."""
MAX_MISSES = 3
"""Answers in a row that are late before Redis is left alone: one alone may be a machine that is busy."""

log = logging.getLogger(__name__)


class Guard:
    """Maps the failures of what is asked of Redis, and leaves it alone for a while after one.

    Args:
        what: Names it in the log.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._rests_until = 0.0
        self._misses = 0

    def __enter__(self) -> None:
        """Begins what bounds itself; raises StoreUnavailableError at once after a failure, and for one."""
        if time.monotonic() < self._rests_until:
            raise StoreUnavailableError(f"{self._what} did not answer a moment ago")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self._misses = 0
        elif isinstance(error, RedisError | OSError):
            is_late = isinstance(error, TimeoutError)
            self._misses += 1
            if not is_late or self._misses >= MAX_MISSES:
                self._rests_until = time.monotonic() + REST_S
                log.warning("%s cannot be reached: %s", self._what, type(error).__name__)
            raise StoreUnavailableError(str(error) or "no answer in time") from error

    @asynccontextmanager
    async def within(self, timeout_s: float) -> AsyncIterator[None]:
        """A place for commands, bounded; raises as the guard itself."""
        with self:
            async with asyncio.timeout(timeout_s):
                yield
