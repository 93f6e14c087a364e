"""Real processes, real signals: how a service starts and ends."""

import asyncio
import os
import signal
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest

from quartet.router.v1 import router_pb2 as pb
from services.kit.call import Call
from services.kit.client import remote
from services.kit.errors import Unavailable
from services.kit.testing import serve

ROUTER = "quartet.router.v1.RouterService"
PROGRAM = textwrap.dedent("""
    import asyncio, os, sys
    from contextlib import asynccontextmanager
    from pydantic_settings import SettingsConfigDict
    from quartet.router.v1 import router_pb2 as pb
    from services.kit.binding import Binding
    from services.kit.process import run_service
    from services.kit.settings import KitSettings

    class Settings(KitSettings):
        model_config = SettingsConfigDict(env_prefix="ROUTER_")

    class Router:
        async def list_models(self, request, call):
            print("called", file=sys.stderr, flush=True)
            await asyncio.sleep(float(call.metadata.get("sleep", 0)))
            return pb.ListModelsResponse(routes=[str(os.getpid())])

    @asynccontextmanager
    async def build(settings, peers):
        yield [Binding("quartet.router.v1.RouterService", Router())]

    sys.exit(run_service("router", Settings.load, build))
""")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM, encoding="utf-8")
    return path


@asynccontextmanager
async def started(program: Path, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, program, env={**os.environ, **environment}, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def address_of(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    async with asyncio.timeout(20):
        async for line in process.stderr:
            if line.startswith(b"{") and (entry := orjson.loads(line))["message"] == "serving":
                return str(entry["address"])
    raise AssertionError("it ended before it served")


async def wait_for_call(process: asyncio.subprocess.Process) -> None:
    assert process.stderr is not None
    async with asyncio.timeout(20):
        while await process.stderr.readline() != b"called\n":
            pass


async def wait_for_exit(process: asyncio.subprocess.Process) -> int:
    return await asyncio.wait_for(process.wait(), 20)


async def test_a_process_drains_on_sigterm_and_exits_with_0(program: Path) -> None:
    async with started(program) as process:
        client = remote(ROUTER, await address_of(process))
        slow = Call.root(timeout_s=10, metadata={"sleep": "0.5"})
        in_flight = asyncio.create_task(client.list_models(pb.ListModelsRequest(), slow))
        await wait_for_call(process)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        assert list((await in_flight).routes) == [str(process.pid)]
        assert await wait_for_exit(process) == 0
        await client.close()


async def test_a_wrong_setting_is_said_in_one_line(program: Path) -> None:
    async with started(program, ROUTER_PORT="many") as process:
        _, output = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 78
    (line,) = output.splitlines()
    assert "ROUTER_PORT" in orjson.loads(line)["message"]


async def test_a_taken_port_is_said_with_its_setting(program: Path) -> None:
    async with serve() as server, started(program, ROUTER_PORT=str(server.port)) as process:
        _, output = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 78
    assert "set ROUTER_PORT to a free port" in orjson.loads(output.splitlines()[-1])["message"]


async def test_workers_share_a_port_and_end_together(program: Path) -> None:
    async with serve() as server:
        port = server.port
    async with started(program, ROUTER_PORT=str(port), ROUTER_WORKERS="2") as process:
        await address_of(process)
        await address_of(process)
        seen: set[str] = set()
        async with asyncio.timeout(20):
            while len(seen) < 2:
                client = remote(ROUTER, f"127.0.0.1:{port}")
                answer = await client.list_models(pb.ListModelsRequest(), Call.root(timeout_s=5))
                seen.update(answer.routes)
                await client.close()
        assert str(process.pid) not in seen
        process.send_signal(signal.SIGTERM)
        assert await wait_for_exit(process) == 0
        client = remote(ROUTER, f"127.0.0.1:{port}")
        with pytest.raises(Unavailable):
            await client.list_models(pb.ListModelsRequest(), Call.root(timeout_s=5))
        await client.close()
