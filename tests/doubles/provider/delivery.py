"""Brings an answer to the client, as well or as badly as the fault says."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

from aiohttp import web

from tests.doubles.provider.script import Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """A stream, encoded: what comes before the first piece, the pieces, and what ends it.

    `pad` makes so many bytes that mean nothing: here a comment, which is legal, and a very long line.
    """

    opening: bytes
    pieces: Sequence[bytes]
    closing: bytes
    media_type: str = "text/event-stream; charset=utf-8"
    pad: Callable[[int], bytes] = lambda size: b": " + b"x" * size + b"\n\n"


class Delivery:
    """One answer on its way; `chunks_sent` tells how far it came, `cut` that the double itself ended it."""

    def __init__(self, request: web.BaseRequest, fault: Fault, closing: asyncio.Event) -> None:
        self._request = request
        self._fault = fault
        self._closing = closing
        self.chunks_sent = 0
        self.cut = False

    async def begin(self) -> None:
        if self._fault.delay_s:
            await asyncio.sleep(self._fault.delay_s)
        if self._fault.drop:
            await self._abort()

    async def send_body(self, status: int, body: bytes, headers: Mapping[str, str]) -> web.StreamResponse:
        fault = self._fault
        if fault.hang_after_chunks is not None:
            await self._hang()
        if fault.malformed_after_chunks is not None:
            body = body[: len(body) // 2]
        if fault.oversize_bytes:
            body = body[:-1] + b',"padding":"' + b"x" * fault.oversize_bytes + b'"}'
        headers = {**headers, "content-type": fault.content_type or "application/json"}
        if fault.cut_after_chunks is None and not fault.drip_bytes:
            return web.Response(status=status, body=body, headers=headers)
        response = web.StreamResponse(status=status, headers=headers)
        response.content_length = len(body)
        await response.prepare(self._request)
        if fault.cut_after_chunks is not None:
            await self._write(response, body[: len(body) // 2 if fault.cut_after_chunks else 0])
            await self._abort()
        await self._write(response, body)
        return response

    async def send_stream(
        self, stream: Stream, headers: Mapping[str, str], *, malformed: bytes, error: bytes
    ) -> web.StreamResponse:
        fault = self._fault
        content_type = fault.content_type or stream.media_type
        response = web.StreamResponse(
            headers={**headers, "content-type": content_type, "cache-control": "no-cache"}
        )
        response.enable_chunked_encoding()
        await response.prepare(self._request)
        if fault.oversize_bytes:
            stream = replace(stream, opening=stream.opening + stream.pad(fault.oversize_bytes))
        await self._write(response, stream.opening)
        for number, piece in enumerate(stream.pieces):
            if await self._act(response, number, malformed, error):
                return response
            if fault.chunk_delay_s:
                await asyncio.sleep(fault.chunk_delay_s)
            await self._write(response, piece)
            self.chunks_sent += 1
        if await self._act(response, None, malformed, error):
            return response
        await self._write(response, stream.closing)
        await response.write_eof()
        return response

    async def _act(
        self, response: web.StreamResponse, number: int | None, malformed: bytes, error: bytes
    ) -> bool:
        """Do what is due before piece `number` (None: before the end); True where that ends the stream."""
        fault = self._fault
        if _is_due(fault.malformed_after_chunks, number, self.chunks_sent):
            await self._write(response, malformed)
        if _is_due(fault.hang_after_chunks, number, self.chunks_sent):
            await self._hang()
        if _is_due(fault.cut_after_chunks, number, self.chunks_sent):
            await self._abort()
        if _is_due(fault.error_after_chunks, number, self.chunks_sent):
            await self._write(response, error)
            await response.write_eof()
            return True
        return False

    async def _write(self, response: web.StreamResponse, data: bytes) -> None:
        size = self._fault.drip_bytes
        if not size:
            await response.write(data)
            return
        for start in range(0, len(data), size):
            await response.write(data[start : start + size])
            await asyncio.sleep(self._fault.drip_interval_s)

    async def _hang(self) -> NoReturn:
        await self._closing.wait()
        await self._abort()

    async def _abort(self) -> NoReturn:
        self.cut = True
        if self._request.transport is not None:
            self._request.transport.abort()
            # The lost connection cancels this task, which aiohttp takes without a word in the log.
            await asyncio.sleep(1)
        raise ConnectionResetError("the double cut the connection")


def _is_due(after_chunks: int | None, number: int | None, sent: int) -> bool:
    if after_chunks is None:
        return False
    return after_chunks == number if number is not None else after_chunks >= sent
