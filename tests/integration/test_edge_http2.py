"""Abuse of HTTP/2, frame by frame (RFC 9113)."""

import asyncio
import struct
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.integration.edge import CHAT, Edge, run_edge

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS, RST_STREAM, SETTINGS, PING = 0x1, 0x3, 0x4, 0x6
END_STREAM_AND_HEADERS = 0x5
MAX_CONCURRENT_STREAMS, CANCEL = 0x3, 0x8
# HPACK: POST, http, and the path and the authority as literals.
POST_CHAT = b"\x83\x86\x44%c%b\x41\x04edge" % (len(CHAT), CHAT.encode())


@pytest_asyncio.fixture(scope="module")
async def edge(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    async with run_edge(tmp_path_factory.mktemp("edge") / "home", client_rps=1_000_000) as running:
        yield running


def frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    return len(content).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + content


async def read_frames(reader: asyncio.StreamReader) -> AsyncIterator[tuple[int, bytes]]:
    """Until the connection ends."""
    while True:
        try:
            head = await reader.readexactly(9)
            content = await reader.readexactly(int.from_bytes(head[:3], "big"))
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        yield head[3], content


async def send_without_end(writer: asyncio.StreamWriter, data: bytes) -> None:
    async with asyncio.timeout(20):
        while True:
            writer.write(data)
            await writer.drain()


async def test_a_connection_may_have_1000_streams_at_once(edge: Edge) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(PREFACE + frame(SETTINGS, 0, 0, b""))
    async with asyncio.timeout(5):
        async for kind, content in read_frames(reader):
            if kind == SETTINGS and content:
                settings = dict(struct.iter_unpack(">HI", content))
                assert settings[MAX_CONCURRENT_STREAMS] == 1000
                break
    writer.close()


async def test_streams_that_are_opened_and_reset_at_once_end_their_connection(edge: Edge) -> None:
    """As in CVE-2023-44487."""
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(PREFACE + frame(SETTINGS, 0, 0, b""))
    for number in range(1, 4001, 2):
        writer.write(frame(HEADERS, END_STREAM_AND_HEADERS, number, POST_CHAT))
        writer.write(frame(RST_STREAM, 0, number, CANCEL.to_bytes(4, "big")))
    async with asyncio.timeout(10):
        async for _ in read_frames(reader):
            pass
    writer.close()
    assert await edge.stat("http.edge.downstream_rq_too_many_premature_resets") == 1
    assert (await edge.http.get(f"{edge.url}/healthz")).status == 200


async def test_pings_are_answered_but_not_without_end_to_who_does_not_read(edge: Edge) -> None:
    before = await edge.stat("http.edge.downstream_cx_destroy_local")
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    ping = frame(PING, 0, 0, bytes(8))
    writer.write(PREFACE + frame(SETTINGS, 0, 0, b"") + ping)
    async with asyncio.timeout(5):
        async for kind, _ in read_frames(reader):
            if kind == PING:
                break
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    with pytest.raises(ConnectionError):
        await send_without_end(writer, ping * 1000)
    async with asyncio.timeout(5):
        while await edge.stat("http.edge.downstream_cx_destroy_local") == before:  # noqa: ASYNC110 - Envoy counts
            await asyncio.sleep(0.05)
    assert (await edge.http.get(f"{edge.url}/healthz")).status == 200
