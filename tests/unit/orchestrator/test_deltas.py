import asyncio
from typing import TYPE_CHECKING, Any, Self, cast

from quartet.common.v1 import generation_pb2
from services.orchestrator.adapters.redis.deltas import CoalescingSink

if TYPE_CHECKING:
    from redis.asyncio import Redis


class SlowRedis:
    """Keeps what is added, in the order in which it is done; the first writing waits to be let go on."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.began = asyncio.Event()
        self.goes_on = asyncio.Event()

    def pipeline(self, *, transaction: bool) -> "SlowBatch":
        return SlowBatch(self)


class SlowBatch:
    def __init__(self, redis: SlowRedis) -> None:
        self._redis = redis
        self._texts: list[str] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._texts.clear()

    def xadd(self, key: str, fields: dict[str, bytes], **_: Any) -> None:
        self._texts.append(generation_pb2.Delta.FromString(fields["delta"]).text)

    def expire(self, key: str, seconds: int) -> None:
        pass

    async def execute(self) -> None:
        if not self._redis.began.is_set():
            self._redis.began.set()
            await self._redis.goes_on.wait()
        self._redis.texts += self._texts


async def test_the_last_pieces_are_written_behind_those_under_way() -> None:
    redis = SlowRedis()
    sink = CoalescingSink(cast("Redis", redis), "key", timeout_s=60)
    await sink.put(generation_pb2.Delta(text="first "))
    writing = asyncio.create_task(sink.flush())
    await redis.began.wait()
    await sink.put(generation_pb2.Delta(text="last"))
    last = asyncio.create_task(sink.flush())
    for _ in range(10):
        await asyncio.sleep(0)
    redis.goes_on.set()
    await asyncio.gather(writing, last)
    assert redis.texts == ["first ", "last"]
