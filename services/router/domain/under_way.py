"""What is being made in this process: who needs the same at the same moment waits for it."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class UnderWay(Generic[T]):
    """Promises by their names, which are each tenant's own; never more than requests ask for."""

    def __init__(self) -> None:
        self._promises: dict[str, asyncio.Future[T]] = {}

    def find(self, names: Iterable[str]) -> dict[str, asyncio.Future[T]]:
        """What others are making of these."""
        return {name: self._promises[name] for name in names if name in self._promises}

    @contextmanager
    def promise(self, names: Iterable[str]) -> Iterator[Mapping[str, asyncio.Future[T]]]:
        """Promises of what nobody else is making; those that are not kept meanwhile are broken at the end."""
        loop = asyncio.get_running_loop()
        promises: dict[str, asyncio.Future[T]] = {
            name: loop.create_future() for name in names if name not in self._promises
        }
        self._promises |= promises
        try:
            yield promises
        finally:
            for name, promise in promises.items():
                del self._promises[name]
                promise.cancel()


async def wait_for(promises: Mapping[str, asyncio.Future[T]], timeout_s: float) -> dict[str, T]:
    """What comes within the time; a broken promise brings nothing."""
    if promises:
        await asyncio.wait(promises.values(), timeout=timeout_s)
    return {
        name: promise.result()
        for name, promise in promises.items()
        if promise.done() and not promise.cancelled()
    }
