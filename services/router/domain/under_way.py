"""Vectors that are being made in this process: who needs one at the same moment waits for it."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from services.kit.call import Call
from services.router.domain.embedding import Vector

Promise = asyncio.Future[Vector]


class UnderWay:
    """Promises of vectors, by their names, which are each tenant's own; no more than texts of requests."""

    def __init__(self) -> None:
        self._promises: dict[str, Promise] = {}

    def find(self, names: Iterable[str]) -> dict[str, Promise]:
        """What others are making of these."""
        return {name: self._promises[name] for name in names if name in self._promises}

    @contextmanager
    def promise(self, names: Iterable[str]) -> Iterator[Mapping[str, Promise]]:
        """Promises of what nobody else is making; those that are not kept meanwhile are broken at the end."""
        loop = asyncio.get_running_loop()
        promises: dict[str, Promise] = {
            name: loop.create_future() for name in names if name not in self._promises
        }
        self._promises |= promises
        try:
            yield promises
        finally:
            for name, promise in promises.items():
                del self._promises[name]
                promise.cancel()


async def wait_for(promises: Mapping[str, Promise], call: Call) -> dict[str, Vector]:
    """The vectors that come within the call's time; a broken promise has none."""
    if promises:
        await asyncio.wait(promises.values(), timeout=call.remaining_s())
    return {
        name: promise.result()
        for name, promise in promises.items()
        if promise.done() and not promise.cancelled()
    }
