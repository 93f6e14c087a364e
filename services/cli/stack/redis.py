from __future__ import annotations

import asyncio
import functools
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from services.cli.settings import bare_environment
from services.cli.stack.home import keep_secret
from services.cli.stack.ports import LOOPBACK
from services.cli.stack.process import Command
from services.cli.stack.supervisor import Program, StackError
from services.kit import artifacts

if TYPE_CHECKING:
    from services.cli.settings import StackSettings


async def prepare_redis(settings: StackSettings) -> tuple[str, Program]:
    """The URL of the embedded Redis and the program that serves it; StackError when there is no binary."""
    binary = await asyncio.to_thread(find_binary)
    password = keep_secret(settings.home / "redis.password")
    folder = settings.home / "redis"
    folder.mkdir(mode=0o700, exist_ok=True)
    configuration = folder / "redis.conf"
    _write_privately(configuration, _configure(settings, password))
    url = f"redis://:{password}@{LOOPBACK}:{settings.redis_port}/0"
    program = Program(
        name="redis",
        command=Command(
            arguments=(str(binary), str(configuration)), environment=bare_environment(), folder=folder
        ),
        is_ready=functools.partial(answers_ping, url),
        ready_timeout_s=settings.ready_timeout_s,
    )
    return url, program


def find_binary() -> Path:
    """The server of the set-up's data files, else the one on the PATH, else the former, downloaded now."""
    if (provided := artifacts.redis_server_path()).exists():
        return provided
    if installed := shutil.which("redis-server"):
        return Path(installed)
    try:
        artifacts.ensure(["redis"])
    except artifacts.ArtifactError as error:
        raise StackError(
            f"The Redis server is missing: {error}\nOr put a redis-server on the PATH, or set REDIS_URL."
        ) from error
    return artifacts.redis_server_path()


def _configure(settings: StackSettings, password: str) -> str:
    """The configuration file, which also keeps the password out of the process list.

    Accounts of money live here: a crash may cost them one second (`everysec`). When memory runs out,
    the least recently used key that has an expiry goes: a cached answer sooner than an open account.
    """
    return "\n".join(
        (
            f"bind {LOOPBACK}",
            f"port {settings.redis_port}",
            f"requirepass {password}",
            f"maxmemory {settings.redis_memory_mib}mb",
            "maxmemory-policy volatile-lru",
            "maxclients 1000",
            'save ""',
            "appendonly yes",
            "appendfsync everysec",
            "",
        )
    )


def _write_privately(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text, encoding="ascii")


async def answers_ping(url: str, *, timeout_s: float = 1.0) -> bool:
    """Whether a Redis server answers at the URL; False also while it still loads its data."""
    from redis.asyncio import Redis
    from redis.exceptions import RedisError

    try:
        async with Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s) as client:
            return bool(await client.ping())
    except RedisError:
        return False
