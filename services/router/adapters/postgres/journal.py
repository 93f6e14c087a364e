"""Rows for PostgreSQL that wait in memory for a moment and are written in batches, beside the calls."""

import asyncio
import logging
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Generic, TypeVar

import orjson
import psycopg
from opentelemetry.metrics import Meter

from services.kit import names
from services.kit.tasks import end

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

CONNECT_TIMEOUT_S = 5
WRITE_TIMEOUT_S = 10.0
MAX_PAUSE_S = 5.0
"""Between attempts while the database is away."""

LEDGER = """
insert into router.ledger select * from json_populate_recordset(null::router.ledger, %s::json)
on conflict (call_id) do nothing
"""
"""Writes `domain.ledger.Entry`s."""
DECISIONS = """
insert into router.decisions select * from json_populate_recordset(null::router.decisions, %s::json)
on conflict (decision_id) do nothing
"""
"""Writes `domain.decision_log.Choice`s."""

Row = TypeVar("Row", bound="DataclassInstance")

log = logging.getLogger(__name__)


class PostgresJournal(Generic[Row]):
    """Writes entries of one kind in their order, each once.

    An entry is written `interval_s` after it was recorded, or as soon as a batch is full. While the database
    is away they wait, `max_waiting` of them; what comes on top is dropped, logged and counted.
    """

    def __init__(
        self,
        database_url: str,
        meter: Meter,
        *,
        statement: str,
        interval_s: float,
        max_batch: int,
        max_waiting: int,
        close_timeout_s: float,
    ) -> None:
        self._database_url = database_url
        self._statement = statement.encode()
        self._interval_s = interval_s
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._close_timeout_s = close_timeout_s
        self._drops = meter.create_counter(names.LEDGER_DROPPED, unit="{entry}")
        self._waiting: deque[Row] = deque()
        self._some = asyncio.Event()
        self._due = asyncio.Event()
        self._closing = False
        self._was_away = False
        self._connection: psycopg.AsyncConnection | None = None
        self._writer: asyncio.Task[None] | None = None
        self.dropped = 0
        """Entries lost since the start."""

    def open(self) -> None:
        """Begins to write; the database is looked for when there is something to write."""
        self._writer = asyncio.create_task(self._write_all(), name="journal")

    def record(self, entry: Row) -> None:
        """Takes an entry; never waits."""
        if len(self._waiting) >= self._max_waiting:
            self._drop(1, "the database is away for too long")
            return
        self._waiting.append(entry)
        self._some.set()
        if len(self._waiting) >= self._max_batch:
            self._due.set()

    async def close(self) -> None:
        """Writes what waits, for `close_timeout_s` at most; what is left then is logged and lost."""
        self._closing = True
        self._some.set()
        self._due.set()
        if self._writer is not None:
            await asyncio.wait([self._writer], timeout=self._close_timeout_s)
            await end(self._writer)
        if self._waiting:
            self._drop(len(self._waiting), "the router stopped before they could be written")
            self._waiting.clear()
        await self._disconnect()

    async def _write_all(self) -> None:
        pause_s, size = self._interval_s, self._max_batch
        while True:
            await self._some.wait()
            await self._pause(self._interval_s)
            while self._waiting:
                try:
                    await self._write(size)
                except psycopg.DataError as error:
                    # One entry is at fault: it is found, and dropped, by writing them one at a time.
                    if size == 1:
                        self._waiting.popleft()
                        self._drop(1, f"the database refuses it: {error.diag.message_primary}")
                    size = 1
                except (psycopg.Error, OSError, TimeoutError) as error:
                    self._note_away(error)
                    await self._disconnect()
                    await asyncio.sleep(pause_s)
                    pause_s = min(MAX_PAUSE_S, 2 * pause_s)
                else:
                    self._note_away(None)
                    pause_s, size = self._interval_s, self._max_batch
            self._due.clear()
            self._some.clear()
            if self._closing:
                return

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._due.wait()
        except TimeoutError:
            pass

    async def _write(self, size: int) -> None:
        batch = list(islice(self._waiting, size))
        async with asyncio.timeout(WRITE_TIMEOUT_S):
            if self._connection is None:
                self._connection = await psycopg.AsyncConnection.connect(
                    self._database_url, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S
                )
            await self._connection.execute(self._statement, (orjson.dumps(batch).decode(),))
        for _ in batch:
            self._waiting.popleft()

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def _drop(self, count: int, why: str) -> None:
        self.dropped += count
        self._drops.add(count)
        # While entries are dropped one after the other, a line for each would only add to the trouble.
        if count > 1 or self.dropped & (self.dropped - 1) == 0:
            log.error("journal entries are lost: %s", why, extra={"dropped": self.dropped})

    def _note_away(self, error: Exception | None) -> None:
        if error is not None and not self._was_away:
            log.error("the journal cannot be written, its entries wait: %s", type(error).__name__)
        elif error is None and self._was_away:
            log.info("the journal is written again", extra={"waiting": len(self._waiting)})
        self._was_away = error is not None
