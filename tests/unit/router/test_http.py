"""The HTTP client of the hot path against servers that behave, and servers that do not."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.kit.settings import SettingsError
from services.router.adapters.http.client import HttpClient
from services.router.adapters.http.connection import (
    MAX_BUFFERED_BYTES,
    MAX_HEAD_BYTES,
    HttpError,
    SilentError,
)
from services.router.adapters.http.dialing import Dialer, Egress, UnreachableError
from tests.unit.router.http_peer import HELLO, Peer

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n"


@asynccontextmanager
async def client_of(
    url: str, *, tls: ssl.SSLContext | None = None, egress: Egress | None = None, connect_timeout_s: float = 5
) -> AsyncIterator[HttpClient]:
    dialer = Dialer(url, connect_timeout_s=connect_timeout_s, egress=egress or Egress(), tls=tls)
    client = HttpClient(url, dialer, {"authorization": "Bearer k"})
    try:
        yield client
    finally:
        await client.close()


async def post(client: HttpClient, *, timeout_s: float = 5, max_bytes: int = 1 << 20) -> bytes:
    due = time.monotonic() + timeout_s
    async with await client.post("/x", b"{}", {"a": "b"}, due=due, max_bytes=max_bytes) as response:
        body = b""
        while chunk := await response.read():
            body += chunk
    return body


@pytest.mark.parametrize("answer", [HELLO, CHUNKED, b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + HELLO])
async def test_an_answer_is_read_and_its_connection_used_again(answer: bytes) -> None:
    async with Peer(answer) as peer, client_of(f"{peer.url}/v1/") as client:
        assert [await post(client) for _ in range(3)] == [b"hello"] * 3
        assert peer.connections == 1
        request = peer.requests[0].decode().lower()
        assert request.startswith("post /v1/x http/1.1\r\n")
        assert f"host: localhost:{peer.port}\r\n" in request
        assert "authorization: bearer k\r\n" in request
        assert "a: b\r\n" in request
        assert "content-length: 2\r\n" in request
        assert request.endswith("\r\n\r\n{}")


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(1, len(CHUNKED) - 1), max_size=5))
async def test_an_answer_is_the_same_however_its_bytes_are_cut(cuts: list[int]) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for start, end in pairwise([0, *sorted(cuts), len(CHUNKED)]):
            writer.write(CHUNKED[start:end])
            await asyncio.sleep(0)

    async with Peer(answer) as peer, client_of(peer.url) as client:
        assert await post(client) == b"hello"


async def test_concurrent_requests_have_connections_of_their_own_which_are_kept() -> None:
    async with Peer(HELLO) as peer, client_of(peer.url) as client:
        await asyncio.gather(*(post(client) for _ in range(5)))
        await asyncio.gather(*(post(client) for _ in range(5)))
        assert peer.connections == 5


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", "no HTTP"),
        (b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", "no HTTP"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * (MAX_HEAD_BYTES * 8), "headers are longer"),
        (HEAD + b"z" * (2 << 20), "longer than 1048576"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "no HTTP"),
    ],
    ids=["another protocol", "upgrade", "endless head", "endless body", "wrong chunk"],
)
async def test_an_answer_that_is_none_is_refused_and_its_connection_closed(answer: bytes, said: str) -> None:
    async with Peer(answer) as peer, client_of(peer.url) as client:
        with pytest.raises(HttpError, match=said):
            await post(client)
        await asyncio.wait_for(peer.lost.wait(), 5)


@pytest.mark.parametrize("extra", [HELLO, b"rubbish"])
async def test_a_connection_on_which_more_comes_than_was_asked_for_is_not_used_again(extra: bytes) -> None:
    async with Peer(HELLO + extra) as peer, client_of(peer.url) as client:
        assert [await post(client), await post(client)] == [b"hello", b"hello"]
        assert peer.connections == 2


async def test_a_body_without_length_ends_with_the_connection() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nhello")
        writer.close()

    async with Peer(answer) as peer, client_of(peer.url) as client:
        assert [await post(client), await post(client)] == [b"hello", b"hello"]
        assert peer.connections == 2


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\n", HEAD, HEAD + b"abc"])
async def test_a_connection_that_is_cut_is_an_error(sent: bytes) -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        writer.close()

    async with Peer(answer) as peer, client_of(peer.url) as client:
        with pytest.raises(HttpError, match="closed"):
            await post(client)
        assert len(peer.requests) == 1


async def test_an_idle_connection_that_the_peer_has_closed_is_never_written_to() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HELLO)
        await writer.drain()
        writer.close()

    async with Peer(answer) as peer, client_of(peer.url) as client:
        for _ in range(5):
            assert await post(client) == b"hello"
            await asyncio.sleep(0.01)
        assert peer.connections == len(peer.requests) == 5


@pytest.mark.parametrize("sent", [b"", HEAD + b"abc"], ids=["no byte", "half a body"])
async def test_silence_ends_an_exchange_and_closes_its_connection(sent: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        await reader.readexactly(1)

    async with Peer(answer) as peer, client_of(peer.url) as client:
        with pytest.raises(SilentError):
            # Enough to connect in, also on a busy machine.
            await post(client, timeout_s=0.5)
        await asyncio.wait_for(peer.lost.wait(), 5)


async def test_a_cancelled_request_closes_its_connection_at_once() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)

    async with Peer(answer) as peer, client_of(peer.url) as client:
        task = asyncio.create_task(post(client))
        await peer.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(peer.lost.wait(), 5)


async def test_a_reader_that_leaves_early_closes_the_connection_unless_the_rest_comes_at_once() -> None:
    left = asyncio.Event()

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nend\r\n")
        await left.wait()
        left.clear()
        writer.write(b"0\r\n\r\n")

    async with Peer(answer) as peer, client_of(peer.url) as client:
        for is_over, connections in ((True, 1), (True, 1), (False, 1), (False, 2)):
            due = time.monotonic() + 5
            async with await client.post("/", b"", {}, due=due, max_bytes=1000) as response:
                assert await response.read() == b"end"
                response.is_over = is_over
            left.set()
            await asyncio.sleep(0.02)
            assert peer.connections == connections


async def test_a_sender_that_is_faster_than_its_reader_is_slowed_down() -> None:
    size = 64 << 20
    sent = 0

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        while sent < size:
            writer.write(bytes(1 << 16))
            await writer.drain()
            sent += 1 << 16

    async with Peer(answer) as peer, client_of(peer.url) as client:
        due = time.monotonic() + 30
        async with await client.post("/", b"", {}, due=due, max_bytes=2 * size) as response:
            before = -1
            while before != sent:
                before = sent
                await asyncio.sleep(0.1)
            assert sent < size
            first = await response.read()
            assert len(first) <= 2 * MAX_BUFFERED_BYTES
            total = len(first)
            while chunk := await response.read():
                total += len(chunk)
        assert total == size


async def test_a_server_that_is_not_there_is_unreachable() -> None:
    async with Peer(HELLO) as peer:
        url = peer.url
    async with client_of(url) as client:
        with pytest.raises(UnreachableError):
            await post(client)


async def test_closing_breaks_off_what_is_under_way() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD)
        await reader.readexactly(1)

    async with Peer(answer) as peer:
        async with client_of(peer.url) as client:
            task = asyncio.create_task(post(client))
            await peer.asked.wait()
        with pytest.raises(HttpError):
            await task


def test_a_key_with_a_line_feed_is_refused_and_not_shown() -> None:
    dialer = Dialer("http://localhost", connect_timeout_s=1, egress=Egress())
    with pytest.raises(SettingsError, match="authorization") as caught:
        HttpClient("http://localhost", dialer, {"authorization": "Bearer secret\r\nx: y"})
    assert "secret" not in str(caught.value)


async def test_a_caller_who_leaves_while_a_connection_is_made_leaves_no_socket_open() -> None:
    async def wait_for_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with Peer(wait_for_nothing) as peer, client_of(peer.url) as client:
        for turns in range(200):
            asking = asyncio.create_task(post(client))
            for _ in range(turns % 16):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        for _ in range(500):
            if peer.open_connections == 0:
                break
            await asyncio.sleep(0.01)
        assert peer.open_connections == 0
