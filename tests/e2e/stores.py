"""What a suite's stores hold, column by column and key by key."""

from typing import Any

import psycopg
from psycopg import sql
from redis.asyncio import Redis

from services.cli.stack.cluster import OWNER
from tests.e2e.suite import Suite

_TABLES = """
select schemaname, tablename from pg_tables
where schemaname not in ('pg_catalog', 'information_schema') order by 1, 2
"""


def database_of(suite: Suite) -> str:
    password = (suite.home / "postgres.password").read_text(encoding="ascii").strip()
    port = suite.environment["QUARTET_POSTGRES_PORT"]
    return f"postgresql://{OWNER}:{password}@127.0.0.1:{port}/quartet"


def redis_of(suite: Suite) -> str:
    password = (suite.home / "redis.password").read_text(encoding="ascii").strip()
    return f"redis://:{password}@127.0.0.1:{suite.environment['QUARTET_REDIS_PORT']}/0"


async def find_in_postgres(suite: Suite, text: str) -> list[str]:
    """The tables with a row that holds the text, in any column, bytes included."""
    found = []
    async with await psycopg.AsyncConnection.connect(database_of(suite)) as connection:
        tables = await (await connection.execute(_TABLES)).fetchall()
        assert len(tables) > 20
        for schema, table in tables:
            # A row as text has its bytes in hex.
            statement = sql.SQL(
                "select 1 from {} t where position(%s in t::text) > 0 or position(%s in t::text) > 0 limit 1"
            ).format(sql.Identifier(schema, table))
            row = await connection.execute(statement, (text, text.encode().hex()))
            if await row.fetchone():
                found.append(f"{schema}.{table}")
    return found


async def find_in_redis(suite: Suite, text: str) -> list[str]:
    """The keys whose names or values hold the text."""
    wanted = text.encode()
    async with Redis.from_url(redis_of(suite)) as redis:
        return [
            name.decode()
            async for name in redis.scan_iter(count=1000)
            if wanted in name or await _hold(redis, name, wanted)
        ]


async def _hold(redis: Any, name: bytes, wanted: bytes) -> bool:
    kind = await redis.type(name)
    if kind == b"none":
        return False
    readers = {
        b"string": lambda: redis.get(name),
        b"hash": lambda: redis.hgetall(name),
        b"stream": lambda: redis.xrange(name),
        b"zset": lambda: redis.zrange(name, 0, -1),
        b"set": lambda: redis.smembers(name),
        b"list": lambda: redis.lrange(name, 0, -1),
    }
    return _is_in(wanted, await readers[kind]())


def _is_in(wanted: bytes, value: object) -> bool:
    match value:
        case bytes():
            return wanted in value
        case dict():
            return any(_is_in(wanted, one) for pair in value.items() for one in pair)
        case list() | tuple() | set():
            return any(_is_in(wanted, one) for one in value)
        case None | int() | float():
            return False
    raise AssertionError(f"{type(value)} is not looked into")


def find_in_files(suite: Suite, text: str) -> list[str]:
    """The logs, and all else that the suite wrote, with the text; the database's own files left out."""
    files = [suite.home.parent / "up.log", *(path for path in suite.home.rglob("*") if path.is_file())]
    wanted = text.encode()
    return sorted(
        str(path.relative_to(suite.home.parent))
        for path in files
        if "postgres" not in path.relative_to(suite.home.parent).parts and wanted in path.read_bytes()
    )
