"""What the double saw: calls, requests, and clients that left."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRequest:
    """A request as it came; header names are lower case, `at` is `time.monotonic()`."""

    method: str
    endpoint: str
    model: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnect:
    """A client that was gone before its answer was complete; `at` is `time.monotonic()`."""

    endpoint: str
    model: str
    at: float
    chunks_sent: int


class Ledger:
    """Counts every call and keeps the last `keep` requests and disconnects; 0 keeps none."""

    def __init__(self, keep: int) -> None:
        self.requests: deque[RecordedRequest] = deque(maxlen=keep)
        self.disconnects: deque[Disconnect] = deque(maxlen=keep)
        self.calls: Counter[tuple[str, str]] = Counter()
        self.statuses: Counter[int] = Counter()
        self.disconnect_count = 0
        self._changed = asyncio.Event()

    def clear(self) -> None:
        self.requests.clear()
        self.disconnects.clear()
        self.calls.clear()
        self.statuses.clear()
        self.disconnect_count = 0

    def record(self, request: RecordedRequest) -> None:
        self.calls[request.endpoint, request.model] += 1
        self.requests.append(request)
        self._changed.set()

    def record_disconnect(self, request: RecordedRequest, chunks_sent: int) -> None:
        self.disconnect_count += 1
        self.disconnects.append(
            Disconnect(
                endpoint=request.endpoint, model=request.model, at=time.monotonic(), chunks_sent=chunks_sent
            )
        )
        self._changed.set()

    async def wait(self, reached: Callable[[], bool], timeout_s: float) -> None:
        async with asyncio.timeout(timeout_s):
            while not reached():
                self._changed.clear()
                await self._changed.wait()

    def stats(self, open_connections: int) -> dict[str, Any]:
        """Plain data: `calls` by endpoint and model, `statuses`, `disconnects`, `open_connections`."""
        calls: dict[str, dict[str, int]] = {}
        for (endpoint, model), count in self.calls.items():
            calls.setdefault(endpoint, {})[model] = count
        return {
            "calls": calls,
            "statuses": {str(status): count for status, count in self.statuses.items()},
            "disconnect_count": self.disconnect_count,
            "disconnects": list(self.disconnects),
            "open_connections": open_connections,
        }
