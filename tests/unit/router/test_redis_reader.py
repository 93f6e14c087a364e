"""Values read out of a Redis that is slow, cut off, or in pieces."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from redis import exceptions

from services.kit.tasks import end
from services.router.adapters.redis.reader import RedisReader

Answer = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Speaks Redis, and answers each GET as told.

    Attributes:
        said: What it was told otherwise, on all connections.
        connections: So far.
    """

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.said: list[bytes] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readline():
                words = []
                for _ in range(int(head[1:])):
                    size = int((await reader.readline())[1:])
                    words.append((await reader.readexactly(size + 2))[:-2])
                if words[0] == b"GET":
                    await self._answer(words[1], writer)
                else:
                    self.said.append(b" ".join(words))
                    writer.write(b"+OK\r\n")
        except ConnectionResetError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def a_redis(
    answer: Answer, *, timeout_s: float = 10.0, login: str = "", database: int = 0
) -> AsyncIterator[tuple[RedisReader, Server]]:
    """A reader, and the server that it reads from."""
    server = Server(answer)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    redis = RedisReader(f"redis://{login}127.0.0.1:{port}/{database}", timeout_s=timeout_s)
    try:
        yield redis, server
    finally:
        await redis.close()
        listener.close()
        await listener.wait_closed()


def bulk(value: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(value), value)


async def echo(key: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(bulk(b"\r\n$-1\r\n" + key))


async def test_replies_in_pieces_reach_those_who_asked() -> None:
    async def answer(key: bytes, writer: asyncio.StreamWriter) -> None:
        for byte in b"$-1\r\n" if key == b"none" else bulk(b"\r\n$-1\r\n" + key):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)

    async with a_redis(answer) as (redis, _):
        found = await asyncio.gather(*(redis.get(key) for key in (b"a", b"none", b"", b"b" * 300)))
    assert found == [b"\r\n$-1\r\na", None, b"\r\n$-1\r\n", b"\r\n$-1\r\n" + b"b" * 300]


async def test_all_who_ask_share_a_connection() -> None:
    async with a_redis(echo) as (redis, server):
        keys = [f"{number}".encode() for number in range(100)]
        assert await asyncio.gather(*map(redis.get, keys)) == [b"\r\n$-1\r\n" + key for key in keys]
        assert server.connections == 1


async def test_who_gives_up_leaves_the_others_their_replies() -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def answer(key: bytes, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await go_on.wait()
        writer.write(bulk(key))

    async with a_redis(answer) as (redis, server):
        first, second = (asyncio.create_task(redis.get(key)) for key in (b"first", b"second"))
        await asked.wait()
        first.cancel()
        await end(first)
        go_on.set()
        assert await second == b"second"
        assert first.cancelled()
        assert server.connections == 1


async def test_a_late_reply_ends_the_connection_and_the_next_is_in_time() -> None:
    async def answer(key: bytes, writer: asyncio.StreamWriter) -> None:
        if key != b"lost":
            writer.write(bulk(key))

    async with a_redis(answer, timeout_s=0.2) as (redis, server):
        assert await redis.get(b"before") == b"before"
        with pytest.raises(TimeoutError):
            await redis.get(b"lost")
        assert await redis.get(b"after") == b"after"
        assert server.connections == 2


async def test_a_lost_connection_fails_all_who_wait_and_is_made_anew() -> None:
    async def answer(key: bytes, writer: asyncio.StreamWriter) -> None:
        if key == b"last":
            writer.transport.abort()
        elif key == b"well":
            writer.write(bulk(key))

    async with a_redis(answer) as (redis, server):
        failed = await asyncio.gather(redis.get(b"waits"), redis.get(b"last"), return_exceptions=True)
        assert [type(error) for error in failed] == [exceptions.ConnectionError] * 2
        assert await redis.get(b"well") == b"well"
        assert server.connections == 2


async def test_what_redis_refuses_fails_alone() -> None:
    replies = {b"map": b"-WRONGTYPE not a string\r\n", b"number": b":1\r\n", b"well": bulk(b"well")}

    async def answer(key: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(replies[key])

    async with a_redis(answer) as (redis, server):
        found = await asyncio.gather(*map(redis.get, replies), return_exceptions=True)
        assert [str(each) for each in found[:2]] == [
            "WRONGTYPE not a string",
            "Redis replies with something else than a value",
        ]
        assert isinstance(found[0], exceptions.ResponseError)
        assert found[2] == b"well"
        assert server.connections == 1


async def test_a_closed_reader_keeps_nobody_waiting() -> None:
    async def answer(key: bytes, writer: asyncio.StreamWriter) -> None:
        if key == b"well":
            writer.write(bulk(key))

    async with a_redis(answer) as (redis, _):
        await redis.get(b"well")
        waiting = asyncio.create_task(redis.get(b"never"))
        await asyncio.sleep(0)
        await redis.close()
        with pytest.raises(exceptions.ConnectionError):
            await waiting


async def test_a_password_and_a_database_are_told_before_anything_is_asked() -> None:
    told: list[bytes] = []

    async def answer(_: bytes, writer: asyncio.StreamWriter) -> None:
        told.extend(server.said)
        writer.write(b"$-1\r\n")

    async with a_redis(answer, login=":sesame@", database=3) as (redis, server):
        await redis.get(b"key")
    assert (told[0], told[-1]) == (b"AUTH sesame", b"SELECT 3")
