"""Wakes waiters in this process when a run changes anywhere: one listening connection for all of them."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from services.orchestrator.adapters.postgres.runs import CHANNEL

log = logging.getLogger(__name__)

RECONNECT_PAUSE_S = 1.0
CONNECT_TIMEOUT_S = 5


class PostgresSignals:
    """LISTEN on the channel of runs; `listen` runs for as long as the process does."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self._waiting: dict[str, set[Changed]] = {}

    async def listen(self) -> None:
        """Passes notifications on, and connects again for ever; while away, waiters look by themselves."""
        while True:
            try:
                await self._listen_once()
            # Of any kind: a standby refuses to listen as it refuses to write.
            except psycopg.Error as error:
                log.warning("lost the connection that listens for runs: %s", error)
            await asyncio.sleep(RECONNECT_PAUSE_S)

    @contextmanager
    def subscribe(self, run_id: str) -> Iterator["Changed"]:
        """A signal for one waiter, for as long as it is entered."""
        signal = Changed()
        self._waiting.setdefault(run_id, set()).add(signal)
        try:
            yield signal
        finally:
            waiting = self._waiting[run_id]
            waiting.discard(signal)
            if not waiting:
                del self._waiting[run_id]

    async def _listen_once(self) -> None:
        connection = await psycopg.AsyncConnection.connect(
            self._database_url, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S
        )
        async with connection:
            await connection.execute(f"listen {CHANNEL}")
            async for notification in connection.notifies():
                for signal in self._waiting.get(notification.payload, ()):
                    signal.set()


class Changed:
    """Set when something changed since the last wait."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        """Wakes the waiter."""
        self._event.set()

    def is_set(self) -> bool:
        """True when a wait would end at once."""
        return self._event.is_set()

    async def wait(self, timeout_s: float) -> bool:
        """True when something changed; False after the time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True
