from __future__ import annotations

import asyncio
import functools
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from services.cli.settings import bare_environment
from services.cli.stack.cluster import OWNER, choose_place, ensure_cluster, find_binaries, reach_binaries
from services.cli.stack.home import keep_secret
from services.cli.stack.ports import LOOPBACK
from services.cli.stack.process import Command, Identity, wait_until_gone
from services.cli.stack.supervisor import Program

if TYPE_CHECKING:
    from services.cli.settings import StackSettings

# After a hard kill the kernel may hold the old server's shared memory a little longer.
RESTART_RETRY_S = 30.0


async def prepare_postgres(settings: StackSettings) -> tuple[str, Program]:
    """The database's URL and the program that serves it, after making the cluster on first use.

    Raises:
        StackError: no binaries, no account to run as, or a cluster of another major version.
    """
    wheel = await asyncio.to_thread(find_binaries)
    place = await asyncio.to_thread(choose_place, settings)
    binaries = await asyncio.to_thread(reach_binaries, wheel, place)
    password = keep_secret(settings.home / "postgres.password")
    await _end_servers_in(place.data)
    await asyncio.to_thread(ensure_cluster, binaries, place, password)
    command = Command(
        arguments=(
            str(binaries / "postgres"),
            *("-D", str(place.data)),
            *_options(
                listen_addresses=LOOPBACK,
                port=settings.postgres_port,
                unix_socket_directories="",
                max_connections=200,
                shared_buffers="128MB",
                logging_collector="off",
            ),
        ),
        environment=bare_environment(),
        account=place.account,
        folder=place.data,
        stop_signal=signal.SIGINT,  # "fast": ends sessions instead of waiting for them
    )
    server_url = f"postgresql://{OWNER}:{password}@{LOOPBACK}:{settings.postgres_port}"
    program = Program(
        name="postgres",
        command=command,
        is_ready=functools.partial(_ensure_database, server_url),
        ready_timeout_s=settings.ready_timeout_s,
        start_retry_s=RESTART_RETRY_S,
    )
    return f"{server_url}/{OWNER}", program


async def _end_servers_in(data: Path) -> None:
    """Ends servers that a killed stack left on this cluster, then removes their `postmaster.pid`.

    Server and backends work in the cluster's folder, by which they are found though their pids are unknown.
    The file must go, since a stranger that now has the pid in it would keep the server from starting.
    """
    if sys.platform != "linux":
        return
    for number in (signal.SIGINT, signal.SIGKILL):
        servers = await asyncio.to_thread(_servers_in, data)
        for server in servers:
            server.signal(number)
        await wait_until_gone(servers, timeout_s=10.0)
    (data / "postmaster.pid").unlink(missing_ok=True)


def _servers_in(data: Path) -> list[Identity]:
    found: list[Identity] = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            ours = (process / "cwd").samefile(data) and (process / "exe").readlink().name == "postgres"
        except OSError:  # gone meanwhile, or not ours to look into
            continue
        if ours and (identity := Identity.of(int(process.name))):
            found.append(identity)
    return found


async def _ensure_database(server_url: str) -> bool:
    """Whether the server takes connections; makes the suite's database in it where missing."""
    import psycopg

    try:
        connection = await psycopg.AsyncConnection.connect(
            f"{server_url}/postgres", autocommit=True, connect_timeout=2
        )
    except psycopg.OperationalError:
        return False
    async with connection:
        found = await connection.execute("select 1 from pg_database where datname = %s", (OWNER,))
        if await found.fetchone() is None:
            await connection.execute(f'create database "{OWNER}"')
    return True


def _options(**values: str | int) -> list[str]:
    return [part for name, value in values.items() for part in ("-c", f"{name}={value}")]
