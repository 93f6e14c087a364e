"""How the owner of an answer writes it into the log, and hands it to the client that began it."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING

from services.gateway.domain.response_entries import Kind, Slot, StoreUnavailableError
from services.kit.errors import DeadlineExceeded, QuartetError

if TYPE_CHECKING:
    from services.gateway.ports import ResponseStore

CLAIM_S = 15.0
"""An answer under way is forgotten after this time, unless its owner writes or renews: it is gone then."""
RENEWAL_S = 4.0
FLUSH_S = 0.03
"""How long messages wait to be written together."""
MAX_BATCH_BYTES = 64 * 1024
MAX_MESSAGES = 65_536
MAX_WAITING_FOR_CLIENT = 16


class Writer:
    """Writes one answer in batches, in the background, and keeps its claim alive.

    An answer beyond the bounds is cut: the log then says so, and holds nothing of it.

    Args:
        note: Told of each failure of the store, and of None after a success.
    """

    def __init__(
        self,
        store: "ResponseStore",
        slot: Slot,
        owner: str,
        *,
        max_bytes: int,
        note: Callable[[StoreUnavailableError | None], None],
    ) -> None:
        self._store = store
        self._slot = slot
        self._owner = owner
        self._max_bytes = max_bytes
        self._note = note
        self._wake = asyncio.Event()
        self._waiting: list[bytes] = []
        self._written = 0
        self._added = 0
        self._added_bytes = 0
        self._cut = False
        self._cut_told = False
        self._lost = False

    def add(self, message: bytes) -> None:
        """Takes the next message; it is written soon."""
        if self._cut:
            return
        self._added += 1
        self._added_bytes += len(message)
        if self._added > MAX_MESSAGES or self._added_bytes > self._max_bytes:
            self._cut = True
            self._waiting.clear()
        else:
            self._waiting.append(message)
        self._wake.set()

    async def run(self) -> None:
        """Writes and renews until it is cancelled; what the store does not take now is tried again."""
        while not self._lost:
            try:
                async with asyncio.timeout(RENEWAL_S):
                    await self._wake.wait()
                await asyncio.sleep(FLUSH_S)
            except TimeoutError:
                pass
            self._wake.clear()
            await self._try(None, CLAIM_S)

    async def finish(self, failure: QuartetError | None, *, keep_s: float, keep_failure_s: float) -> None:
        """Writes what is left, and the end behind it."""
        if self._lost:
            return
        if failure is None:
            await self._try(Kind.DONE, keep_s)
            return
        await self._try(None, CLAIM_S)
        self._waiting = [failure.to_proto().SerializeToString()]
        self._cut = False
        await self._try(Kind.FAILED, keep_failure_s)

    async def _try(self, end: Kind | None, expire_s: float) -> None:
        try:
            self._lost = not await self._write(end, expire_s)
        except StoreUnavailableError as error:
            self._note(error)
        else:
            self._note(None)

    async def _write(self, end: Kind | None, expire_s: float) -> bool:
        if self._cut and not self._cut_told:
            self._cut_told = await self._append(Kind.CUT, (), expire_s)
            return self._cut_told
        if self._cut or (not self._waiting and end is None):
            return await self._store.renew(self._slot, self._owner, expire_s)
        while True:
            batch = self._batch()
            is_last = len(batch) == len(self._waiting)
            kind = end if is_last and end else Kind.GOING
            if not await self._append(kind, batch, expire_s if kind is end else CLAIM_S):
                return False
            self._written += len(batch)
            del self._waiting[: len(batch)]
            if not self._waiting:
                return True

    async def _append(self, kind: Kind, messages: tuple[bytes, ...], expire_s: float) -> bool:
        return await self._store.append(
            self._slot, self._owner, kind, start=self._written, messages=messages, expire_s=expire_s
        )

    def _batch(self) -> tuple[bytes, ...]:
        size = 0
        for count, message in enumerate(self._waiting):
            size += len(message)
            if size > MAX_BATCH_BYTES and count:
                return tuple(self._waiting[:count])
        return tuple(self._waiting)


class LiveClient:
    """The client that began an answer: it gets each message at once, and holds up none once it is gone."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[bytes | QuartetError | None] = asyncio.Queue(MAX_WAITING_FOR_CLIENT)
        self._is_gone = False

    async def put(self, item: bytes | QuartetError | None) -> None:
        """Hands over a message, the error that ended the answer, or its end; waits for a slow client."""
        if not self._is_gone:
            await self._queue.put(item)

    async def read(self, deadline: float) -> AsyncGenerator[bytes]:
        """The messages until `deadline` of `time.monotonic()`; leaving it means that the client is gone."""
        try:
            while (item := await self._next(deadline)) is not None:
                if isinstance(item, QuartetError):
                    raise item
                yield item
        finally:
            self._is_gone = True
            while not self._queue.empty():
                self._queue.get_nowait()

    async def _next(self, deadline: float) -> bytes | QuartetError | None:
        try:
            async with asyncio.timeout_at(deadline):
                return await self._queue.get()
        except TimeoutError:
            message = (
                "the answer is still being made, and this call's time is used up: ask again with its key"
            )
            return DeadlineExceeded(message)
