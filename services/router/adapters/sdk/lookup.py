"""Look-ups of credentials by libraries that block."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

Found = TypeVar("Found")


class Lookup(Generic[Found]):
    """Looks up in a thread, once for all who wait at the same time.

    Who leaves, leaves it to the others; the thread then ends by the time-outs of its library.
    """

    def __init__(self, find: Callable[[], Found]) -> None:
        self._find = find
        self._running: asyncio.Task[Found] | None = None

    async def ask(self) -> Found:
        """What is found; raises what the library raises."""
        if self._running is None:
            self._running = asyncio.create_task(asyncio.to_thread(self._find))
            self._running.add_done_callback(self._end)
        return await asyncio.shield(self._running)

    async def close(self) -> None:
        """Ends the waiting of all."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    def _end(self, task: asyncio.Task[Found]) -> None:
        self._running = None
        if not task.cancelled():
            # Taken note of, also where nobody waits any more.
            task.exception()
