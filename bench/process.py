"""Measured processes and their stores: started as in earnest, their CPU time read from the kernel."""

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from services.cli.settings import StackSettings
from services.cli.stack.ports import assign_ports, find_free_ports
from services.cli.stack.postgres import prepare_postgres
from services.cli.stack.process import ProcessRoom
from services.cli.stack.redis import prepare_redis
from services.cli.stack.schemas import migrate_all
from services.cli.stack.supervisor import Supervisor

CLIENTS = 32

Task = Callable[[], Awaitable[object]]


@asynccontextmanager
async def stores() -> AsyncIterator[tuple[str, str]]:
    """The URLs of an empty PostgreSQL, migrated, and an empty Redis."""
    with tempfile.TemporaryDirectory(prefix="quartet-bench-") as folder:
        os.chmod(folder, 0o711)  # noqa: PTH101, S103 - PostgreSQL's own account goes through it
        home = Path(folder) / "home"
        room = ProcessRoom.within(home)
        settings = assign_ports(
            StackSettings(home=home, postgres_port=0, redis_port=0), ("postgres", "redis")
        )
        database_url, postgres = await prepare_postgres(settings)
        redis_url, redis = await prepare_redis(settings)
        supervisor = Supervisor(room, say=lambda _: None)
        try:
            await supervisor.start(postgres, redis)
            await migrate_all(database_url)
            yield database_url, redis_url
        finally:
            await supervisor.stop()


@asynccontextmanager
async def running(
    *arguments: str, port_variable: str = "GATEWAY_PORT", **variables: str
) -> AsyncIterator[tuple[int, str]]:
    """A Python process that listens on the port in that variable: its id and its address."""
    port = find_free_ports(1, avoid=set())[0]
    environment = {**os.environ, port_variable: str(port), "QUARTET_LOG_LEVEL": "WARNING", **variables}
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, env=environment, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(60):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except ConnectionRefusedError:
                    await asyncio.sleep(0.1)
                else:
                    writer.close()
                    break
        yield process.pid, f"127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


def cpu_ns(pid: int) -> int:
    """What the kernel booked for a process and its living threads."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text(encoding="ascii").split()[0]) for task in tasks)


async def cost_us(pid: int, task: Task, times: int) -> float:
    """CPU µs of the process for each run of the task."""
    remaining = iter(range(times))

    async def work() -> None:
        for _ in remaining:
            await task()

    before = cpu_ns(pid)
    await asyncio.gather(*(work() for _ in range(CLIENTS)))
    return (cpu_ns(pid) - before) / times / 1000
