"""TLS, proxies and bounds of what the vendors' SDKs send, by Azure's as the simplest."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from services.router.adapters.config.servers import AzureServer
from services.router.adapters.http.connection import HttpError, SilentError
from services.router.adapters.http.dialing import Egress, UnreachableError
from services.router.adapters.sdk.azure import AzureClient
from services.router.adapters.sdk.client import SdkClient, SdkResponse
from services.router.adapters.transport import MAX_REFUSAL_BYTES
from tests.unit.router.http_peer import HELLO, Peer
from tests.unit.router.test_http_tls import pipe

DIRECT = Egress()


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The authority is the system's."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))


@asynccontextmanager
async def client_of(url: str, egress: Egress = DIRECT) -> AsyncIterator[SdkClient]:
    server = AzureServer(name="azure", kind="azure", base_url=url, api_version="2025-04-01-preview")
    client = AzureClient(server, "key", egress, connect_timeout_s=5)
    try:
        yield client
    finally:
        await client.close()


async def post(client: SdkClient, *, timeout_s: float = 5.0) -> SdkResponse:
    due = time.monotonic() + timeout_s
    return await client.post("/chat/completions", b'{"model": "m"}', {}, due=due, max_bytes=1000)


async def read(client: SdkClient) -> bytes:
    content = b""
    async with await post(client) as response:
        while chunk := await response.read():
            content += chunk
    return content


@pytest.mark.usefixtures("trusted")
async def test_an_answer_comes_over_tls_and_its_connection_is_used_again(secure_peer: Peer) -> None:
    async with client_of(secure_peer.url) as client:
        assert [await read(client), await read(client)] == [b"hello", b"hello"]
        assert secure_peer.connections == 1


async def test_a_server_that_nobody_vouches_for_gets_no_request(secure_peer: Peer) -> None:
    async with client_of(secure_peer.url) as client:
        with pytest.raises(UnreachableError, match="certificate"):
            await post(client)
    assert not secure_peer.requests


@pytest.mark.usefixtures("trusted")
async def test_a_certificate_for_another_name_is_refused(secure_peer: Peer) -> None:
    async with client_of(secure_peer.url.replace("localhost", "127.0.0.1")) as client:
        with pytest.raises(UnreachableError, match="certificate"):
            await post(client)
    assert not secure_peer.requests


@pytest.mark.usefixtures("trusted")
async def test_a_proxy_is_asked_for_a_tunnel_unless_the_host_needs_none(secure_peer: Peer) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("localhost", secure_peer.port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            await asyncio.gather(pipe(reader, back), pipe(there, writer))
        finally:
            back.close()

    async with Peer(answer) as proxy:
        address = f"http://me:p%40ss@localhost:{proxy.port}"
        async with client_of(secure_peer.url, Egress(proxy=address)) as client:
            assert await read(client) == b"hello"
        (request,) = proxy.requests
        assert request.startswith(f"CONNECT localhost:{secure_peer.port} HTTP/1.1\r\n".encode())
        assert b"proxy-authorization: basic bwu6cebzcw==\r\n" in request.lower()
        async with client_of(secure_peer.url, Egress(proxy=address, direct="localhost")) as client:
            assert await read(client) == b"hello"
        assert len(proxy.requests) == 1


async def test_nobody_there_is_unreachable() -> None:
    async with Peer(HELLO) as peer:
        url = peer.url
    async with client_of(url) as client:
        with pytest.raises(UnreachableError):
            await post(client)


async def test_a_refusal_without_end_is_cut_and_its_connection_closed() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 500 No\r\ncontent-encoding: gzip\r\ncontent-length: 99999999999\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    async with Peer(answer) as peer, client_of(peer.url) as client:
        size = 0
        response = await client.post(
            "/chat/completions", b"{}", {}, due=time.monotonic() + 10, max_bytes=2 * MAX_REFUSAL_BYTES
        )
        async with response:
            assert response.status == 500
            while chunk := await response.read():
                size += len(chunk)
        assert MAX_REFUSAL_BYTES <= size < 2 * MAX_REFUSAL_BYTES
        await asyncio.wait_for(peer.lost.wait(), 5)


async def test_an_answer_that_is_too_long_is_refused() -> None:
    async with (
        Peer(b"HTTP/1.1 200 OK\r\ncontent-length: 2000\r\n\r\n" + b"x" * 2000) as peer,
        client_of(peer.url) as client,
    ):
        with pytest.raises(HttpError, match="longer than 1000 bytes"):
            await read(client)


async def test_silence_ends_when_it_is_due() -> None:
    async with (
        Peer(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello") as peer,
        client_of(peer.url) as client,
    ):
        async with await post(client) as response:
            assert await response.read() == b"hello"
            response.allow(time.monotonic() + 0.05)
            with pytest.raises(SilentError):
                await response.read()
        await asyncio.wait_for(peer.lost.wait(), 5)


async def test_what_no_time_is_left_for_is_not_sent() -> None:
    async with Peer(HELLO) as peer, client_of(peer.url) as client:
        with pytest.raises(SilentError):
            await post(client, timeout_s=-1.0)
        assert not peer.requests
