"""Clients that send or read slowly, on purpose or not: ended in time, and nobody else waits for them.

The edge's times are cut to seconds here; what they are cut from is in its configuration.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio

from quartet.common.v1 import message_pb2
from quartet.gateway.v1 import gateway_pb2
from services.kit.call import Call
from services.kit.client import remote
from services.kit.errors import DeadlineExceeded
from tests.integration.edge import CHAT, FRAME, GENERATE, Edge, connections_of, run_edge

HEADERS_S, IDLE_S, REQUEST_S = 1, 2, 3
SLACK_S = 8.0
"""What a busy machine may be late; nothing would end by itself within it."""
BUFFERED = 24 << 20
"""What may wait between the gateway and a reader that does not read: windows of HTTP/2, Envoy's buffers, and
the kernel's sockets, twice."""


def hurry(bootstrap: Any) -> None:
    connections = connections_of(bootstrap)
    connections["request_headers_timeout"] = f"{HEADERS_S}s"
    connections["request_timeout"] = f"{REQUEST_S}s"
    connections["stream_idle_timeout"] = f"{IDLE_S}s"
    (public,) = connections["route_config"]["virtual_hosts"]
    for route in public["routes"]:
        if "idle_timeout" in route.get("route", {}):
            route["route"]["idle_timeout"] = f"{IDLE_S}s"


@pytest_asyncio.fixture(scope="module")
async def edge(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    async with run_edge(tmp_path_factory.mktemp("edge") / "home", change=hurry) as running:
        yield running


async def drip(edge: Edge, start: bytes, drop: bytes, *, every_s: float) -> tuple[bytes, float]:
    """Sends a drop again and again; the edge's answer, and the seconds until it came.

    The drops' times must keep clear of the bound under test: a drop that crosses the edge's end of the
    connection is answered by a reset, and a reset may overtake the answer.
    """
    loop = asyncio.get_running_loop()
    with socket.create_connection(("127.0.0.1", edge.port)) as connection:
        connection.setblocking(False)
        began = loop.time()

        async def send() -> None:
            await loop.sock_sendall(connection, start)
            while True:
                await loop.sock_sendall(connection, drop)
                await asyncio.sleep(every_s)

        sending = asyncio.create_task(send())
        try:
            async with asyncio.timeout(30):
                answer = await loop.sock_recv(connection, 65_536)
                took_s = loop.time() - began
                sending.cancel()
                while more := await loop.sock_recv(connection, 65_536):
                    answer += more
            return answer, took_s
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


async def check_others_are_served(edge: Edge) -> None:
    async with (
        asyncio.timeout(10),
        edge.http.post(
            f"{edge.url}{CHAT}", data=b"{}", headers={"content-type": "application/json"}
        ) as answer,
    ):
        assert answer.status == 200


async def test_headers_that_are_dripped(edge: Edge) -> None:
    """As Slowloris does, by hundreds."""
    start = b"GET /v1/models HTTP/1.1\r\nhost: edge\r\n"
    dripping = [asyncio.create_task(drip(edge, start, b"x-a: b\r\n", every_s=0.7)) for _ in range(200)]
    await asyncio.sleep(HEADERS_S / 2)
    await check_others_are_served(edge)
    for answer, took_s in await asyncio.gather(*dripping):
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"REQUEST_TIMEOUT"' in answer
        assert took_s < HEADERS_S + SLACK_S


@pytest.mark.parametrize(
    ("every_s", "bound_s"), [(60.0, IDLE_S), (0.8, REQUEST_S)], ids=["stalled", "dripped"]
)
async def test_a_body_that_does_not_come(edge: Edge, every_s: float, bound_s: float) -> None:
    start = b"POST %b HTTP/1.1\r\nhost: edge\r\ncontent-length: 100000\r\n\r\n" % CHAT.encode()
    dripping = asyncio.create_task(drip(edge, start, b"x", every_s=every_s))
    await asyncio.sleep(0.3)
    await check_others_are_served(edge)
    answer, took_s = await dripping
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert bound_s - 0.5 < took_s < bound_s + SLACK_S


async def test_a_grpc_call_whose_message_does_not_come(edge: Edge) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{edge.port}") as channel:
        # A unary rpc is on the wire as a stream of one message, which this one never writes.
        call: Any = channel.stream_unary(GENERATE)()
        await check_others_are_served(edge)
        async with asyncio.timeout(IDLE_S + SLACK_S):
            assert await call.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        details = dict(await call.trailing_metadata())["grpc-status-details-bin"]
        assert b"REQUEST_TIMEOUT" in details


async def test_a_gateway_that_is_silent_to_a_grpc_client(edge: Edge) -> None:
    gateway = remote("quartet.gateway.v1.GatewayService", f"127.0.0.1:{edge.port}")
    request = gateway_pb2.GenerateRequest()
    request.generation.messages.add(role=message_pb2.ROLE_USER).parts.add(text="Hi")
    request.generation.session = "silent"
    with pytest.raises(DeadlineExceeded) as caught:
        await gateway.generate(request, Call.root(timeout_s=IDLE_S + 10))
    assert caught.value.reason == "GATEWAY_TIMEOUT"
    await gateway.close()


async def test_a_reader_that_does_not_read(edge: Edge) -> None:
    body = b'{"stream": 2000}'
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    request = (
        b"POST %b HTTP/1.1\r\nhost: edge\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
    )
    sent_before = edge.gateway.frames
    writer.write(request % (CHAT.encode(), len(body), body))
    # A reader of asyncio would take in some by itself.
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    async with asyncio.timeout(IDLE_S + 5 + SLACK_S):
        while edge.gateway.frames == sent_before or edge.gateway.streams:  # noqa: ASYNC110 - the stream's end is what is waited for
            await asyncio.sleep(0.05)
    await check_others_are_served(edge)
    assert (edge.gateway.frames - sent_before) * len(FRAME) < BUFFERED
    writer.close()
    del reader


async def test_no_connection_is_left(edge: Edge) -> None:
    async with asyncio.timeout(10):
        while await edge.stat("http.edge.downstream_rq_active"):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.1)
    assert await edge.stat("cluster.gateway.upstream_rq_active") == 0
