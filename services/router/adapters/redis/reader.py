"""Reads values out of Redis over one connection that all who ask share, each reply going to who is next."""

import asyncio
from collections import deque
from typing import Any

from redis import exceptions
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

MAX_WAITING = 10_000
"""Who comes on top is refused."""

_BULK, _ERROR = b"$-"


class RedisReader:
    """Reads single values, for a quarter of what a command of redis-py costs, which makes the connection.

    Raises what redis-py does, TimeoutError included. A reply that is late ends the connection, for all who
    wait on it; the next one makes it anew.

    Args:
        url: As redis-py takes it.
        timeout_s: Within which a reply, and a connection, must be there.
    """

    def __init__(self, url: str, *, timeout_s: float) -> None:
        # RESP2, in which a server says nothing unasked.
        pool: Any = ConnectionPool.from_url(
            url, protocol=2, socket_timeout=None, socket_connect_timeout=None, retry=Retry(NoBackoff(), 0)
        )
        self._connection: Any = pool.make_connection()
        self._connecting = asyncio.Lock()
        self._timeout_s = timeout_s
        self._line: _Line | None = None

    async def get(self, key: bytes) -> bytes | None:
        """What is kept under a key; None when there is nothing."""
        line = self._line
        if line is None or line.is_lost:
            line = await self._connect()
        return await line.ask(b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(key), key))

    async def close(self) -> None:
        """Closes the connection; nobody may ask any more."""
        if self._line is not None:
            self._line.hand_back()
        await self._connection.disconnect()

    async def _connect(self) -> "_Line":
        async with asyncio.timeout(self._timeout_s), self._connecting:
            if self._line is None or self._line.is_lost:
                await self._connection.disconnect(nowait=True)
                await self._connection.connect()
                self._line = _Line(self._connection._writer.transport, self._timeout_s)
            return self._line


class _Line(asyncio.Protocol):
    """A connection's transport, taken over from its streams once they have logged in."""

    def __init__(self, transport: asyncio.Transport, timeout_s: float) -> None:
        self._transport = transport
        self._streams = transport.get_protocol()
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[float, asyncio.Future[bytes | None]]] = deque()
        self._watch: asyncio.TimerHandle | None = None
        self._rest = b""
        self.is_lost = False
        transport.set_protocol(self)

    def ask(self, command: bytes) -> asyncio.Future[bytes | None]:
        """Sends a command; one that is given up meanwhile leaves its reply to be dropped."""
        if len(self._waiting) >= MAX_WAITING:
            raise exceptions.RedisError("too many wait for Redis")
        due = self._loop.time() + self._timeout_s
        reply: asyncio.Future[bytes | None] = self._loop.create_future()
        self._waiting.append((due, reply))
        if self._watch is None:
            self._watch = self._loop.call_at(due, self._check)
        self._transport.write(command)
        return reply

    def hand_back(self) -> None:
        """Lets the streams close the connection."""
        self._fail(exceptions.ConnectionError, "the connection is closed")
        self._transport.set_protocol(self._streams)

    def data_received(self, data: bytes) -> None:
        data = self._rest + data if self._rest else data
        start = 0
        while self._waiting and (end := data.find(b"\r\n", start)) >= 0:
            value, error = None, None
            if data[start] == _BULK:
                size = int(data[start + 1 : end])
                if size >= 0:
                    begin, end = end + 2, end + 2 + size
                    if len(data) < end + 2:
                        break
                    value = data[begin:end]
            elif data[start] == _ERROR:
                error = exceptions.ResponseError(data[start + 1 : end].decode())
            else:
                error = exceptions.ResponseError("Redis replies with something else than a value")
            start = end + 2
            _, reply = self._waiting.popleft()
            if reply.done():
                continue
            if error is None:
                reply.set_result(value)
            else:
                reply.set_exception(error)
        self._rest = data[start:]

    def connection_lost(self, error: Exception | None) -> None:
        self._streams.connection_lost(error)
        self._fail(exceptions.ConnectionError, "the connection to Redis is lost")

    def _check(self) -> None:
        """Stands for a timer of each command: the first in line has waited for longest."""
        self._watch = None
        if not self._waiting:
            return
        due, _ = self._waiting[0]
        if due > self._loop.time():
            self._watch = self._loop.call_at(due, self._check)
            return
        self._fail(TimeoutError, "no answer in time")
        self._transport.abort()

    def _fail(self, kind: type[Exception], text: str) -> None:
        self.is_lost = True
        if self._watch is not None:
            self._watch.cancel()
        for _, reply in self._waiting:
            if not reply.done():
                reply.set_exception(kind(text))
        self._waiting.clear()
