"""One HTTP/1.1 connection: a request at a time, its answer parsed by llhttp as the bytes come."""

import asyncio
import select
import time
from collections.abc import Callable
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

MAX_HEAD_BYTES = 64 * 1024
"""Of an answer's headers, together with what comes in one piece with them."""
MAX_BUFFERED_BYTES = 256 * 1024
"""What waits for its reader before the sender is slowed down."""


class HttpError(Exception):
    """An exchange that failed; the message says how."""


class SilentError(HttpError):
    """Nothing came for as long as the reader allowed."""


class CredentialsError(HttpError):
    """What the provider would know its client by cannot be had; nothing was sent."""


class Connection(asyncio.Protocol):
    """A connection that is idle, or serves the exchange begun by `send` until `release` or `abort`.

    Args:
        on_idle: Called when an exchange is over and another may follow.
        on_lost: Called once, when the connection is gone.
    """

    def __init__(
        self, on_idle: Callable[["Connection"], None], on_lost: Callable[["Connection"], None]
    ) -> None:
        self._on_idle = on_idle
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._parser = HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._socket = -1
        self._waiter: asyncio.Future[None] | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._failure: HttpError | None = None
        self._chunks: list[bytes] = []
        self._buffered = self._received = self._max_bytes = 0
        self._paused = self._has_head = self._ends_with_connection = False
        self._is_complete = self._is_released = True
        self._keeps_alive = True
        self.status = 0
        self.headers: dict[str, str] = {}

    @property
    def is_open(self) -> bool:
        """False once the connection is gone."""
        return self._transport is not None

    @property
    def transport(self) -> asyncio.Transport:
        """What carries it; raises HttpError when the connection is gone."""
        if self._transport is None:
            raise HttpError("the connection is closed")
        return self._transport

    async def send(self, request: bytes, *, due: float, max_bytes: int) -> None:
        """Sends a request; `status` and `headers` are those of the answer then.

        Args:
            request: Head and body.
            due: When to give up, in seconds of `time.monotonic()`; `allow` changes it.
            max_bytes: Longest answer, with its head and framing.
        """
        self._has_head = self._is_complete = self._is_released = self._ends_with_connection = False
        self._received, self._max_bytes, self.headers = 0, max_bytes, {}
        self.transport.write(request)
        self.allow(due)
        while not self._has_head:
            if self._failure is not None:
                raise self._failure
            await self._wait()

    async def read(self) -> bytes:
        """All of the body that has come since; waits for some, and is empty at its end."""
        while not self._chunks:
            if self._is_complete:
                return b""
            if self._failure is not None:
                raise self._failure
            await self._wait()
        chunks = self._chunks
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._chunks, self._buffered = [], 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return data

    def allow(self, due: float) -> None:
        """Moves the time at which silence, or idleness, ends the connection.

        A timer that is set already stays and looks again when it fires: most answers never see one fire.
        """
        self._due = due
        if self._watch is not None and self._watch.when() <= due:
            return
        if self._watch is not None:
            self._watch.cancel()
        self._watch = self._loop.call_later(due - time.monotonic(), self._look)

    def release(self, *, linger_s: float = 0.0) -> None:
        """Ends the exchange.

        A connection whose answer is complete, or will be within `linger_s`, is idle then; another is closed.
        """
        self._is_released = True
        self._chunks, self._buffered = [], 0
        if self._is_complete:
            self._rest()
        elif linger_s and self._failure is None:
            self.allow(time.monotonic() + linger_s)
        else:
            self.abort()

    def abort(self) -> None:
        """Closes the socket at once."""
        self._keeps_alive = False
        if self._transport is not None:
            self._transport.abort()

    def hand_over(self) -> None:
        """Forgets the transport, which another protocol serves from now on."""
        self._transport = None
        if self._watch is not None:
            self._watch.cancel()

    def is_fresh(self) -> bool:
        """Whether the idle connection still stands: a peer that has closed it makes its socket readable."""
        if self._transport is None or self._transport.is_closing():
            return False
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return not poll.poll(0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._socket = transport.get_extra_info("socket").fileno()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._watch is not None:
            self._watch.cancel()
        if self._has_head and self._ends_with_connection and error is None and not self._is_complete:
            self._is_complete = True
        self._keeps_alive = False
        self._fail(HttpError(type(error).__name__ if error else "the connection was closed"))
        self._on_lost(self)

    def data_received(self, data: bytes) -> None:
        if self._is_complete:
            # Nobody asked for anything.
            self.abort()
            return
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._fail(HttpError(f"it is no HTTP/1.1: {error}"))
            self.abort()
            return
        if not self._has_head and self._received > MAX_HEAD_BYTES:
            self._fail(HttpError(f"its headers are longer than {MAX_HEAD_BYTES} bytes"))
            self.abort()
        elif self._received > self._max_bytes and not self._is_released:
            self._fail(HttpError(f"it is longer than {self._max_bytes} bytes"))
            self.abort()
        elif self._buffered > MAX_BUFFERED_BYTES and not self._paused:
            self._paused = True
            self.transport.pause_reading()
        self._wake()

    def on_message_begin(self) -> None:
        """Of llhttp: an answer that follows the one that was asked for."""
        if self._is_complete:
            self.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Of llhttp: a header, or a trailer."""
        if not self._has_head:
            self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Of llhttp; interim answers (1xx) are passed over."""
        self.status = self._parser.get_status_code()
        if self.status < 200:
            self.headers = {}
            return
        self._has_head = True
        self._keeps_alive = self._parser.should_keep_alive()
        self._ends_with_connection = not (
            "content-length" in self.headers or "transfer-encoding" in self.headers
        )

    def on_body(self, body: bytes) -> None:
        """Of llhttp."""
        if not (self._is_released or self._is_complete):
            self._chunks.append(body)
            self._buffered += len(body)

    def on_message_complete(self) -> None:
        """Of llhttp."""
        if self._has_head:
            self._is_complete = True
            if self._is_released:
                self._rest()

    def _rest(self) -> None:
        if not self._keeps_alive or self._transport is None:
            self.abort()
            return
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        self._on_idle(self)

    def _look(self) -> None:
        self._watch = None
        if time.monotonic() < self._due:
            self.allow(self._due)
            return
        self._fail(SilentError("nothing came in time"))
        self.abort()

    def _fail(self, failure: HttpError) -> None:
        if self._failure is None:
            self._failure = failure
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
