"""The real stores that tests share: one PostgreSQL and one Redis a session, started when first asked for."""

import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import settings
from redis.asyncio import Redis

from services.cli.settings import StackSettings
from services.cli.stack.ports import assign_ports
from services.cli.stack.postgres import prepare_postgres
from services.cli.stack.process import ProcessRoom
from services.cli.stack.redis import prepare_redis
from services.cli.stack.schemas import migrate_all
from services.cli.stack.supervisor import Program, Supervisor
from services.kit import telemetry
from tests.databases import copy_database

# Read by gRPC at its first use: it would write to the logs of programs that tests start.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

# How long an example takes is no test's business; another profile may still be asked for by name.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def no_telemetry_of_another_test() -> Iterator[None]:
    """What one test traces or leaves out must not be the next one's sampling decision."""
    yield
    telemetry.reset()


@pytest.fixture(scope="session")
def store_settings() -> Iterator[StackSettings]:
    # Not pytest's own folder: as root, PostgreSQL runs as an account that may not enter it.
    with tempfile.TemporaryDirectory(prefix="quartet-test-") as folder:
        Path(folder).chmod(0o711)
        home = Path(folder) / "home"
        ProcessRoom.within(home)
        yield assign_ports(StackSettings(home=home, postgres_port=0, redis_port=0), ("postgres", "redis"))


async def run(settings: StackSettings, program: Program) -> Supervisor:
    supervisor = Supervisor(ProcessRoom.within(settings.home), say=lambda _: None)
    await supervisor.start(program)
    return supervisor


@pytest_asyncio.fixture(scope="session")
async def database_template(store_settings: StackSettings) -> AsyncIterator[str]:
    """A migrated database from which each test's own is copied."""
    url, program = await prepare_postgres(store_settings)
    supervisor = await run(store_settings, program)
    try:
        await migrate_all(url)
        yield url
    finally:
        await supervisor.stop()


@pytest_asyncio.fixture
async def database_url(database_template: str) -> AsyncIterator[str]:
    """A database of the test's own, with every service's schema and no rows."""
    async with copy_database(database_template) as url:
        yield url


@pytest_asyncio.fixture(scope="session")
async def redis_server(store_settings: StackSettings) -> AsyncIterator[str]:
    url, program = await prepare_redis(store_settings)
    supervisor = await run(store_settings, program)
    yield url
    await supervisor.stop()


@pytest_asyncio.fixture
async def redis_url(redis_server: str) -> AsyncIterator[str]:
    """The session's Redis, emptied for the test."""
    async with Redis.from_url(redis_server) as client:
        await client.flushall()
    yield redis_server
