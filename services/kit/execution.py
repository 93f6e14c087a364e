"""What running a method means, the same for a remote and for a local caller."""

import asyncio
import logging
import secrets
from types import TracebackType

from services.kit.call import Call
from services.kit.errors import DeadlineExceeded, Internal, QuartetError

log = logging.getLogger(__name__)


class Execution:
    """Bounds a method by its call's deadline, and lets only errors of the tree out.

    Meanwhile `call.interrupt` ends it with another error. Inside, time runs out as DeadlineExceeded, and an
    exception that no caller is meant to see becomes Internal with an id, under which it is logged with its
    stack. Cancellation passes untouched.

    Args:
        name: What runs, for people: an rpc's name.
    """

    __slots__ = ("_call", "_cause", "_is_over", "_name", "_timeout")

    def __init__(self, name: str, call: Call) -> None:
        self._name = name
        self._call = call
        self._timeout = asyncio.timeout_at(call.deadline)
        self._cause: QuartetError | None = None
        self._is_over = False

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()
        self._call.interrupt = self._interrupt

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_over = True
        self._call.interrupt = None  # else they would hold each other, and all that the call took, for long
        try:
            await self._timeout.__aexit__(kind, error, traceback)
        except TimeoutError:
            raise self._cause or out_of_time(self._name) from None
        if isinstance(error, Exception) and self._timeout.expired() and self._cause:
            raise self._cause from None
        if error is None or isinstance(error, QuartetError):
            return
        if isinstance(error, Exception) and self._timeout.expired():
            raise out_of_time(self._name) from None
        if isinstance(error, Exception) or (
            isinstance(error, asyncio.CancelledError) and not _is_cancelled()
        ):
            raise conceal(error, self._name) from None

    def _interrupt(self, error: QuartetError) -> None:
        """Brings the deadline forward to now, with another error at its end."""
        if not self._is_over and not self._timeout.expired() and self._cause is None:
            self._cause = error
            self._timeout.reschedule(asyncio.get_running_loop().time())


def out_of_time(name: str) -> DeadlineExceeded:
    """The error of a call that reached its deadline, on whichever side it was noticed."""
    return DeadlineExceeded(f"{name} ran out of time: allow more, or ask for less")


def conceal(error: BaseException, name: str) -> Internal:
    """Logs an unexpected exception, and gives the error that stands for it outside."""
    fault = secrets.token_hex(8)
    log.error("%s failed unexpectedly (id %s)", name, fault, exc_info=error)
    message = f"an internal fault (id {fault}): try again, and report the id if it lasts"
    return Internal(message, reason="INTERNAL", metadata={"id": fault})


def _is_cancelled() -> bool:
    """False when a CancelledError came from what the method awaited, and nobody cancelled the method."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
