"""TLS and proxies of the HTTP client."""

import asyncio
import ssl

import pytest
import trustme

from services.kit.settings import SettingsError
from services.router.adapters.http.dialing import Dialer, Egress, UnreachableError
from tests.unit.router.http_peer import Peer
from tests.unit.router.test_http import client_of, post


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def test_an_answer_comes_over_tls_and_its_connection_is_used_again(
    secure_peer: Peer, authority: trustme.CA
) -> None:
    async with client_of(secure_peer.url, tls=trusting(authority)) as client:
        assert [await post(client), await post(client)] == [b"hello", b"hello"]
        assert secure_peer.connections == 1


async def test_a_server_that_nobody_vouches_for_gets_no_request(secure_peer: Peer) -> None:
    async with client_of(secure_peer.url) as client:
        with pytest.raises(UnreachableError, match="certificate"):
            await post(client)
    assert not secure_peer.requests


async def test_a_certificate_for_another_name_is_refused(secure_peer: Peer, authority: trustme.CA) -> None:
    url = secure_peer.url.replace("localhost", "127.0.0.1")
    async with client_of(url, tls=trusting(authority)) as client:
        with pytest.raises(UnreachableError, match="certificate"):
            await post(client)
    assert not secure_peer.requests


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
    writer.close()


async def test_a_proxy_is_asked_for_a_tunnel_and_sees_nothing_else(
    secure_peer: Peer, authority: trustme.CA
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("localhost", secure_peer.port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            await asyncio.gather(pipe(reader, back), pipe(there, writer))
        finally:
            back.close()

    async with Peer(answer) as proxy:
        egress = Egress(proxy=f"http://me:p%40ss@localhost:{proxy.port}")
        async with client_of(secure_peer.url, tls=trusting(authority), egress=egress) as client:
            assert [await post(client), await post(client)] == [b"hello", b"hello"]
        (request,) = proxy.requests
        assert request.startswith(f"CONNECT localhost:{secure_peer.port} HTTP/1.1\r\n".encode())
        assert b"proxy-authorization: Basic bWU6cEBzcw==\r\n" in request
        assert secure_peer.connections == 1


async def test_a_proxy_that_refuses_makes_the_provider_unreachable(
    secure_peer: Peer, authority: trustme.CA
) -> None:
    async with Peer(b"HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n") as proxy:
        egress = Egress(proxy=f"http://localhost:{proxy.port}")
        async with client_of(secure_peer.url, tls=trusting(authority), egress=egress) as client:
            with pytest.raises(UnreachableError, match="407"):
                await post(client)
        await asyncio.wait_for(proxy.lost.wait(), 5)


async def test_a_host_that_needs_no_proxy_is_reached_directly(
    secure_peer: Peer, authority: trustme.CA
) -> None:
    egress = Egress(proxy="http://localhost:1", direct="example.org, localhost")
    async with client_of(secure_peer.url, tls=trusting(authority), egress=egress) as client:
        assert await post(client) == b"hello"


@pytest.mark.parametrize(
    ("direct", "proxied"),
    [("", True), ("*", False), ("openai.com", False), (".openai.com", False), ("ai.com,other.org", True)],
)
def test_domains_that_need_no_proxy_are_whole_names(direct: str, proxied: bool) -> None:
    egress = Egress(proxy="http://proxy", direct=direct)
    assert bool(egress.proxy_for("api.openai.com")) is proxied


def test_a_proxy_that_cannot_be_used_is_refused_at_the_start() -> None:
    with pytest.raises(SettingsError, match="HTTPS_PROXY"):
        Dialer("https://api.example.org", connect_timeout_s=1, egress=Egress(proxy="socks5://localhost:1"))
