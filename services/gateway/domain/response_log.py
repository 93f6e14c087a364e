"""One log of answers behind idempotency keys, duplicates that wait, and streams that are taken up again."""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from opentelemetry import trace

from services.gateway.domain.headers import REPLAYED
from services.gateway.domain.response_entries import Slot, StoreUnavailableError
from services.gateway.domain.response_reader import KEEP_STREAM_S, Ask, OwnerLostError, Reader
from services.gateway.domain.response_writer import CLAIM_S, LiveClient, Writer
from services.kit import names
from services.kit.call import Call
from services.kit.errors import QuartetError, ResourceExhausted, Unavailable
from services.kit.execution import Execution
from services.kit.tasks import end

if TYPE_CHECKING:
    from services.gateway.ports import ResponseStore

log = logging.getLogger(__name__)

Make = Callable[[Call], AsyncGenerator[bytes]]
"""Makes an answer, message by message, within the given call."""

FIRST_POLL_S = 0.02
MAX_POLL_S = 0.5
MAX_CLAIMS = 5
"""How often a waiting duplicate tries to take over from owners that are lost."""


class ResponseLog:
    """Makes each answer once, in a task that outlives its client, and gives it to all who ask for it.

    A failure is given to those who wait for it, and to those who take the stream up again; the next request
    with the key begins anew. So it does when the owner's process died, at the latest `CLAIM_S` later.

    Args:
        max_detached: Answers under way in this process; more are refused.
        timeout_s: How long one may take, whatever its client's deadline was.
        max_bytes: The longest answer that is kept.
    """

    def __init__(
        self, store: "ResponseStore", *, max_detached: int, timeout_s: float, max_bytes: int
    ) -> None:
        self._store = store
        self._max_detached = max_detached
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._tasks: set[asyncio.Task[None]] = set()
        self._store_was_down = False

    async def serve(self, ask: Ask, make: Make, call: Call) -> AsyncGenerator[bytes]:
        """The answer's messages: made now, being made, or made before.

        What was not made for this call is marked in its response headers.

        Raises:
            AlreadyExists: The key was used for a different request.
            FailedPrecondition: The answer was too long to be kept.
            NotFound: There is no stream to be taken up.
            OutOfRange: The stream has no message of that number.
            ResourceExhausted: Too many answers are under way.
            Unavailable: The store does not answer, or the answer's owner was lost.
        """
        for _ in range(1 if ask.first else MAX_CLAIMS):
            owner = secrets.token_hex(8)
            if not ask.first and await self._claim(ask, owner):
                async with aclosing(self._make(ask, make, call, owner)) as messages:
                    async for message in messages:
                        yield message
                return
            begun = False
            try:
                async with aclosing(self._follow(ask, call)) as messages:
                    async for message in messages:
                        if not begun:
                            begun = True
                            call.response_headers[REPLAYED] = "true"
                            trace.get_current_span().set_attribute(names.REPLAYED, True)
                        yield message
                return
            except OwnerLostError:
                if begun:
                    break
        raise _interrupted()

    async def drain(self, timeout_s: float) -> None:
        """Lets what is under way go on for a while, then ends it with an error."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)
        await self.close()

    async def close(self) -> None:
        """Ends what is under way with an error."""
        await end(*self._tasks)

    async def _claim(self, ask: Ask, owner: str) -> bool:
        try:
            holder = await self._store.claim(ask.slot, ask.fingerprint, owner, CLAIM_S)
        except StoreUnavailableError as error:
            self._note_store(error)
            raise _no_store() from None
        except asyncio.CancelledError:
            await self._release(ask.slot, owner)  # the claim may be there, and nobody would answer it
            raise
        self._note_store(None)
        if holder is not None:
            ask.check(holder)
        return holder is None

    async def _make(self, ask: Ask, make: Make, call: Call, owner: str) -> AsyncGenerator[bytes]:
        if len(self._tasks) >= self._max_detached:
            await self._release(ask.slot, owner)
            raise ResourceExhausted(
                "too many requests with idempotency keys are under way: try again later",
                reason="TOO_MANY_DETACHED",
                retry_after_s=1.0,
            )
        own = replace(call, deadline=time.monotonic() + self._timeout_s)
        client = LiveClient()
        task = asyncio.create_task(self._run(ask, make, own, owner, client), name="detached-answer")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        async with aclosing(client.read(call.deadline)) as messages:
            async for message in messages:
                yield message

    async def _run(self, ask: Ask, make: Make, call: Call, owner: str, client: LiveClient) -> None:
        writer = Writer(self._store, ask.slot, owner, max_bytes=self._max_bytes, note=self._note_store)
        writing = asyncio.create_task(writer.run())
        failure: QuartetError | None = _interrupted()
        try:
            async with Execution(ask.rpc, call), aclosing(make(call)) as messages:
                async for message in messages:
                    writer.add(message)
                    await client.put(message)
            failure = None
        except QuartetError as error:
            failure = error
        finally:
            try:
                # Kept before its client sees the end: who asks again from then on finds it.
                await end(writing)
                await writer.finish(failure, keep_s=ask.keep_s, keep_failure_s=KEEP_STREAM_S)
            finally:
                # A drain asks again where the store is slow: the client is told all the same.
                await client.put(failure)

    async def _follow(self, ask: Ask, call: Call) -> AsyncGenerator[bytes]:
        """The messages as somebody else makes them, or made them; looks for more ever more rarely."""
        reader, poll_s = Reader(ask), FIRST_POLL_S
        while True:
            try:
                entries = await self._store.read(ask.slot, reader.cursor)
            except StoreUnavailableError as error:
                self._note_store(error)
                raise _no_store() from None
            for message in reader.take(entries):
                yield message
            if reader.is_done:
                return
            if entries:
                poll_s = FIRST_POLL_S
            else:
                await asyncio.sleep(min(poll_s, call.remaining_s()))
                poll_s = min(MAX_POLL_S, poll_s * 2)

    async def _release(self, slot: Slot, owner: str) -> None:
        try:
            await self._store.release(slot, owner)
        except StoreUnavailableError as error:
            self._note_store(error)

    def _note_store(self, error: StoreUnavailableError | None) -> None:
        if error is not None and not self._store_was_down:
            log.error("the log of answers cannot be reached: %s", error)
        self._store_was_down = error is not None


def _interrupted() -> Unavailable:
    message = "the server that made this answer stopped before its end: ask again from the start"
    return Unavailable(message, reason="ANSWER_INTERRUPTED", retry_after_s=1.0)


def _no_store() -> Unavailable:
    return Unavailable(
        "the log of answers does not answer, so that one answer for this idempotency key cannot be promised: "
        "try again, or leave out the key and `resumable`",
        reason="RESPONSE_LOG_UNAVAILABLE",
        retry_after_s=1.0,
    )
