"""Many large bodies that are never completed: they must neither take all memory nor stay."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import pytest

from tests.integration.edge import CHAT, Edge, connections_of, run_edge

HEAP = 160 << 20
IDLE_S = 4
BODY = 30 << 20


def shrink(bootstrap: Any) -> None:
    """A heap that a few uploads fill, and idle times of seconds."""
    manager = bootstrap["overload_manager"]
    (heap,) = [entry for entry in manager["resource_monitors"] if entry["name"].endswith("fixed_heap")]
    heap["typed_config"]["max_heap_size_bytes"] = HEAP
    (scaled,) = [entry for entry in manager["actions"] if entry["name"].endswith("reduce_timeouts")]
    for timer in scaled["typed_config"]["timer_scale_factors"]:
        timer["min_timeout"] = f"{IDLE_S}s"
    assert connections_of(bootstrap)["stream_idle_timeout"] == "120s"


@asynccontextmanager
async def half_sent(edge: Edge) -> AsyncIterator[asyncio.StreamReader]:
    """A connection that sends most of a body and then nothing more."""
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    try:
        start = b"POST %b HTTP/1.1\r\nhost: edge\r\ncontent-length: %d\r\n\r\n" % (CHAT.encode(), 32 << 20)
        writer.write(start)
        for _ in range(BODY >> 20):
            writer.write(bytes(1 << 20))
            await writer.drain()
        yield reader
    finally:
        writer.close()


async def ask(edge: Edge) -> tuple[int, str]:
    headers = {"content-type": "application/json"}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{edge.url}{CHAT}", data=b"{}", headers=headers) as answer,
    ):
        return answer.status, answer.headers.get("retry-after", "")


async def test_bodies_that_are_never_completed_are_let_go_and_meanwhile_nothing_new_is_taken_on(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    async with run_edge(tmp_path_factory.mktemp("edge") / "home", change=shrink) as edge:
        assert await ask(edge) == (200, "")
        async with AsyncExitStack() as uploads, asyncio.timeout(60):
            readers: list[asyncio.StreamReader] = []
            while await ask(edge) != (503, "1"):
                readers.append(await uploads.enter_async_context(half_sent(edge)))
                # Envoy looks at its heap every quarter of a second; the next upload must know.
                await asyncio.sleep(0.6)
            assert BODY * len(readers) < 2 * HEAP
            # Which of them go is the clock's affair: the rest may stay once there is room again.
            ending = [asyncio.ensure_future(reader.readline()) for reader in readers]
            done, staying = await asyncio.wait(ending, return_when=asyncio.FIRST_COMPLETED)
            assert all(line.result().startswith(b"HTTP/1.1 408 ") for line in done)
            while await ask(edge) != (200, ""):  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.1)
            for line in staying:
                line.cancel()
            await asyncio.gather(*ending, return_exceptions=True)
