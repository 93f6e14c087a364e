"""Pieces of answers through a Redis stream: bounded, short-lived, and never a reason for a run to fail."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from quartet.common.v1 import generation_pb2
from services.kit.tasks import end
from services.orchestrator.ports import DeltaSink

log = logging.getLogger(__name__)

COALESCE_S = 0.05
MAX_WAITING_DELTAS = 512
MAX_ENTRIES = 2000
LIFETIME_S = 600
READ_COUNT = 100


class RedisDeltas:
    """One stream for each run that is writing its answer."""

    def __init__(self, redis: Redis, *, timeout_s: float) -> None:
        self._redis = redis
        self._timeout_s = timeout_s

    @asynccontextmanager
    async def publish(self, run_id: str) -> AsyncIterator["CoalescingSink"]:
        """A sink that writes every COALESCE_S what came; leaving it writes the rest."""
        sink = CoalescingSink(self._redis, _key(run_id), timeout_s=self._timeout_s)
        await sink.begin()
        writing = asyncio.create_task(sink.write_often())
        try:
            yield sink
            await sink.flush()
        finally:
            await end(writing)

    async def read(
        self, run_id: str, cursor: str, *, wait_s: float
    ) -> tuple[list[generation_pb2.Delta], str]:
        """The deltas after a cursor; without Redis none, after the wait."""
        try:
            async with asyncio.timeout(wait_s + self._timeout_s):
                answer: Any = await self._redis.xread(
                    {_key(run_id): cursor or "0"}, count=READ_COUNT, block=max(1, round(wait_s * 1000))
                )
        except (RedisError, TimeoutError) as error:
            log.warning("cannot read deltas: %s", error)
            await asyncio.sleep(wait_s)
            return [], cursor
        deltas: list[generation_pb2.Delta] = []
        for _, entries in answer:
            for entry, fields in entries:
                cursor = entry.decode()
                deltas.append(generation_pb2.Delta.FromString(fields[b"delta"]))
        return deltas, cursor


class CoalescingSink:
    """Joins the texts that come within COALESCE_S into one delta."""

    def __init__(self, redis: Redis, key: str, *, timeout_s: float) -> None:
        self._redis = redis
        self._key = key
        self._timeout_s = timeout_s
        self._waiting: list[generation_pb2.Delta] = []
        self._writing = asyncio.Lock()

    async def begin(self) -> None:
        """Removes what an earlier try sent."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._redis.delete(self._key)
        except (RedisError, TimeoutError) as error:
            log.warning("cannot reset deltas: %s", error)

    async def put(self, delta: generation_pb2.Delta) -> None:
        """Takes a delta; one that does not fit any more is dropped: the answer itself is kept elsewhere."""
        last = self._waiting[-1] if self._waiting else None
        if last is not None and _joins(last, delta):
            last.text += delta.text
        elif len(self._waiting) < MAX_WAITING_DELTAS:
            own = generation_pb2.Delta()
            own.CopyFrom(delta)
            self._waiting.append(own)

    async def write_often(self) -> None:
        """Writes what waits, until it is cancelled."""
        while True:
            await asyncio.sleep(COALESCE_S)
            await self.flush()

    async def flush(self) -> None:
        """Writes what waits, behind what is being written."""
        async with self._writing:
            await self._write()

    async def _write(self) -> None:
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        try:
            async with asyncio.timeout(self._timeout_s), self._redis.pipeline(transaction=False) as batch:
                for delta in waiting:
                    batch.xadd(
                        self._key, {"delta": delta.SerializeToString()}, maxlen=MAX_ENTRIES, approximate=True
                    )
                batch.expire(self._key, LIFETIME_S)
                await batch.execute()
        except (RedisError, TimeoutError) as error:
            log.warning("cannot send deltas: %s", error)


class NoDeltas:
    """Where there is no Redis: answers come whole."""

    @asynccontextmanager
    async def publish(self, run_id: str) -> AsyncIterator[DeltaSink]:
        """A sink that keeps nothing."""
        del run_id
        yield _Nowhere()

    async def read(
        self, run_id: str, cursor: str, *, wait_s: float
    ) -> tuple[list[generation_pb2.Delta], str]:
        """Nothing, after the wait."""
        del run_id
        await asyncio.sleep(wait_s)
        return [], cursor


class _Nowhere:
    async def put(self, delta: generation_pb2.Delta) -> None:
        del delta


def _joins(last: generation_pb2.Delta, delta: generation_pb2.Delta) -> bool:
    both_text = last.WhichOneof("kind") == "text" == delta.WhichOneof("kind")
    return both_text and last.part_index == delta.part_index


def _key(run_id: str) -> str:
    return f"quartet:orchestrator:deltas:{run_id}"
