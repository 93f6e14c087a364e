"""Services as processes of their own."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from services.kit.client import remote

START_TIMEOUT_S = 60.0


@asynccontextmanager
async def run_service(
    name: str, contract: str, **environment: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, Any]]:
    """A process that listens, and a client of it; killed at the end, where nobody stopped it before."""
    port = free_port()
    own = {f"{name.upper()}_PORT": str(port)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"services.{name}", env=os.environ | own | environment
    )
    client = remote(contract, f"127.0.0.1:{port}")
    try:
        await wait_for_listener(port)
        yield process, client
    finally:
        await client.close()
        if process.returncode is None:
            process.kill()
        await process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def wait_for_listener(port: int) -> None:
    async with asyncio.timeout(START_TIMEOUT_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.1)
            else:
                writer.close()
                return
