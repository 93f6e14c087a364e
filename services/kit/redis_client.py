"""Clients of Redis that can be cancelled at any moment."""

from typing import Any

from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff


def open_redis(
    url: str, *, connect_timeout_s: float, max_connections: int = 64, wait_s: float | None = None
) -> Redis:
    """A client whose commands are bounded by their callers, with `asyncio.timeout`.

    With a `socket_timeout`, which is redis-py's default, each command is sent in `asyncio.wait_for`: a task
    of its own, and before Python 3.12 a cancellation that comes at the moment of its end is lost.

    Args:
        url: As redis-py takes it.
        connect_timeout_s: For making a connection.
        max_connections: At once; a command that needs one more fails.
        wait_s: How long it waits for one instead; then a command is tried again once only.
    """
    settings: dict[str, Any] = {
        "socket_timeout": None,
        "socket_connect_timeout": connect_timeout_s,
        "max_connections": max_connections,
    }
    if wait_s is None:
        return Redis.from_pool(ConnectionPool.from_url(url, **settings))
    settings |= {"timeout": wait_s, "retry": Retry(NoBackoff(), 1)}
    return Redis.from_pool(BlockingConnectionPool.from_url(url, **settings))
