from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from services.cli.stack.envoy import certify, describe_envoy
from services.cli.stack.home import hold_home
from services.cli.stack.ports import assign_ports
from services.cli.stack.postgres import prepare_postgres
from services.cli.stack.process import ProcessRoom, end_leftovers
from services.cli.stack.redis import answers_ping, prepare_redis
from services.cli.stack.schemas import migrate_all
from services.cli.stack.services import describe_service_programs
from services.cli.stack.supervisor import StackError, Supervisor
from services.kit.errors import QuartetError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from services.cli.settings import StackSettings
    from services.cli.stack.supervisor import Program

STORE_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """Where a running stack is reached, and the key that opens it.

    Attributes:
        authority: Whom clients are to trust, where the edge's certificate is of our own making.
    """

    url: str
    api_key: str
    key_file: Path
    authority: Path | None = None


class EmbeddedStack:
    """The whole suite on this machine: stores, services and Envoy, each a process of its own."""

    def __init__(
        self,
        settings: StackSettings,
        *,
        make_key: Callable[[str, Path], Awaitable[str]],
        say: Callable[[str], object],
    ) -> None:
        self._settings = settings
        self._make_key = make_key
        self._say = say
        self._room = ProcessRoom.within(settings.home)
        self._supervisor = Supervisor(self._room, say=say)

    async def run(self, announce: Callable[[Edge], None]) -> None:
        """Runs the suite until cancelled, and leaves nothing running.

        Raises:
            StackError: it cannot start, or a part crashes too often.
        """
        with hold_home(self._settings.home):
            for name in await end_leftovers(self._room):
                self._say(f"ended {name}, left by an earlier run")
            try:
                announce(await self._start())
                await self._supervisor.watch()
            finally:
                await self._supervisor.stop()

    def kill(self) -> None:
        """Ends every process at once, while `run` is still stopping them one by one."""
        self._supervisor.kill()

    async def _start(self) -> Edge:
        settings = assign_ports(self._settings)
        database_url, redis_url = await self._start_stores(settings)
        self._say("applying migrations")
        try:
            await migrate_all(database_url)
            key_file = settings.home / "dev.key"
            api_key = await self._make_key(database_url, key_file)
        except (psycopg.Error, QuartetError) as error:
            raise StackError(f"The database could not be prepared: {error}") from error
        self._say("starting the services")
        await self._supervisor.start(*describe_service_programs(settings, database_url, redis_url))
        self._say("starting Envoy")
        settings, authority = await asyncio.to_thread(certify, settings)
        await self._supervisor.start(await asyncio.to_thread(describe_envoy, settings))
        scheme = "https" if settings.tls else "http"
        return Edge(
            url=f"{scheme}://{settings.edge_host}:{settings.edge_port}",
            api_key=api_key,
            key_file=key_file,
            authority=authority,
        )

    async def _start_stores(self, settings: StackSettings) -> tuple[str, str]:
        programs: list[Program] = []
        database_url, redis_url = settings.database_url, settings.redis_url
        if not database_url:
            self._say("starting PostgreSQL")
            database_url, postgres = await prepare_postgres(settings)
            programs.append(postgres)
        if not redis_url:
            self._say("starting Redis")
            redis_url, redis = await prepare_redis(settings)
            programs.append(redis)
        elif not await answers_ping(redis_url, timeout_s=STORE_TIMEOUT_S):
            raise StackError(
                "The Redis server of REDIS_URL does not answer: check that it runs, or unset it."
            )
        await self._supervisor.start(*programs)
        return database_url, redis_url
