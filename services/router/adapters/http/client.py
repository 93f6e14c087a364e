"""Posts to one origin over a pool of connections."""

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from services.kit.settings import SettingsError
from services.router.adapters.http.connection import Connection
from services.router.adapters.http.dialing import Dialer, UnreachableError

MAX_CONNECTIONS = 1000
"""In use at once; further requests wait for one to be free."""
MAX_IDLE = 100
IDLE_S = 30.0
"""How long an unused connection is kept: shorter than what the vendors' servers allow."""
LINGER_S = 0.05
"""How long an answer of which all that matters was read may take to end, so that its connection is kept."""
CLOSE_TIMEOUT_S = 1.0


class Response:
    """An answer under way: its head is there, its body comes; leaving the block ends the exchange."""

    __slots__ = ("_connection", "allow", "headers", "is_over", "read", "status")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.status = connection.status
        self.headers: Mapping[str, str] = connection.headers
        self.read = connection.read
        self.allow = connection.allow
        self.is_over = False
        """Set by a reader that needs no more: then the connection may have the moment to end properly."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._connection.release(linger_s=LINGER_S if self.is_over else 0.0)


class HttpClient:
    """Posts to one origin.

    A connection that the peer has closed meanwhile is noticed before anything is sent on it; a request that
    was sent is never sent again.

    Args:
        url: Origin and the beginning of every path.
        headers: Of every request.

    Raises SettingsError for headers that HTTP does not allow: the value is never shown.
    """

    def __init__(self, url: str, dialer: Dialer, headers: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        self._path = parts.path.rstrip("/")
        self._dialer = dialer
        self._headers = _encode({"host": parts.netloc.rpartition("@")[2], **headers})
        self._idle: deque[Connection] = deque()
        self._busy: set[Connection] = set()
        self._slots = asyncio.Semaphore(MAX_CONNECTIONS)
        self._closing: asyncio.Event | None = None

    async def post(
        self, path: str, body: bytes, headers: Mapping[str, str], *, due: float, max_bytes: int
    ) -> Response:
        """Sends a request and returns once the answer's head is there; it must be entered then.

        Args:
            path: Continues the client's own.
            body: JSON, as the client's headers say.
            headers: Of this request only.
            due: When to give up, in seconds of `time.monotonic()`.
            max_bytes: Longest answer, with its head and framing.

        Raises:
            UnreachableError: No connection could be made.
            HttpError: The exchange broke off, or nothing came in time.
        """
        connection = await self._take(due)
        try:
            head = f"POST {self._path}{path} HTTP/1.1\r\ncontent-length: {len(body)}\r\n".encode()
            request = b"".join((head, self._headers, _encode(headers), b"\r\n", body))
            await connection.send(request, due=due, max_bytes=max_bytes)
        except BaseException:
            connection.abort()
            raise
        return Response(connection)

    async def close(self) -> None:
        """Closes all connections; answers under way break off."""
        for connection in (*self._idle, *self._busy):
            connection.abort()
        self._closing = asyncio.Event()
        if self._idle or self._busy:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._closing.wait()

    async def _take(self, due: float) -> Connection:
        if self._slots.locked():
            try:
                async with asyncio.timeout(due - time.monotonic()):
                    await self._slots.acquire()
            except TimeoutError:
                raise UnreachableError(f"all {MAX_CONNECTIONS} connections are in use") from None
        else:
            await self._slots.acquire()
        try:
            connection = self._find_idle() or await self._dialer.open(self._make, due)
            if not connection.is_open:
                raise UnreachableError("the connection was closed")
        except BaseException:
            self._slots.release()
            raise
        self._busy.add(connection)
        return connection

    def _find_idle(self) -> Connection | None:
        """The one used last, so that those that are not needed age."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_fresh():
                return connection
            connection.abort()
        return None

    def _make(self) -> Connection:
        return Connection(self._keep, self._forget)

    def _keep(self, connection: Connection) -> None:
        self._leave(connection)
        self._idle.append(connection)
        connection.allow(time.monotonic() + IDLE_S)
        if len(self._idle) > MAX_IDLE:
            self._idle[0].abort()

    def _forget(self, connection: Connection) -> None:
        self._leave(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if self._closing is not None and not (self._idle or self._busy):
            self._closing.set()

    def _leave(self, connection: Connection) -> None:
        if connection in self._busy:
            self._busy.discard(connection)
            self._slots.release()


def _encode(headers: Mapping[str, str]) -> bytes:
    for name, value in headers.items():
        if not (value.isascii() and value.isprintable()):
            raise SettingsError(f"the header {name} would hold characters that HTTP does not allow")
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()
