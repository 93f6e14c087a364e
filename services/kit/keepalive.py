"""Signs of life on silent streams: proxies and clients drop those on which nothing moves."""

import asyncio
import time
from types import TracebackType
from typing import Any, Self

from google.protobuf.message import Message

from services.kit.call import Call


class Keepalive:
    """Writes a stream's messages, and the call's `keepalive` whenever none was written for a while.

    A call without one is written straight through. The block's end ends the watching.

    Args:
        context: What has `write`.
        call: Whose `keepalive` is set by the method, at the latest before its first message.
        period_s: The longest silence.
    """

    __slots__ = ("_call", "_context", "_last", "_lock", "_period_s", "_watch")

    def __init__(self, context: Any, call: Call, period_s: float) -> None:
        self._context = context
        self._call = call
        self._period_s = period_s
        self._last = 0.0
        self._lock: asyncio.Lock | None = None
        self._watch: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)

    def begin(self) -> None:
        """Starts watching, once the headers are sent: before that, an error can still be a status."""
        if self._call.keepalive is not None:
            self._lock = asyncio.Lock()
            self._watch = asyncio.create_task(self._keep(self._call.keepalive, self._lock))

    async def write(self, message: Message) -> None:
        """Sends a message of the method's own."""
        if self._lock is None:
            await self._context.write(message)
            return
        async with self._lock:
            await self._context.write(message)
        self._last = time.monotonic()

    async def _keep(self, message: Message, lock: asyncio.Lock) -> None:
        self._last = time.monotonic()
        while True:
            silent_s = time.monotonic() - self._last
            if silent_s < self._period_s:
                await asyncio.sleep(self._period_s - silent_s)
                continue
            async with lock:
                await self._context.write(message)
            self._last = time.monotonic()
