import asyncio
import logging
from typing import Any

ASK_AGAIN_S = 0.5

log = logging.getLogger(__name__)


def report_end(task: asyncio.Task[Any]) -> None:
    """The done-callback of tasks that go on until they are cancelled: logs what ended one before that."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("%s has ended and does nothing more", task.get_name(), exc_info=error)


async def end(*tasks: asyncio.Future[Any]) -> None:
    """Cancels tasks and waits until they have ended, whatever their outcome.

    It asks again, since before Python 3.12 `asyncio.wait_for`, with which psycopg's pool waits, loses a
    cancellation that comes at the moment of its result.
    """
    ended = [task for task in tasks if task.done()]
    left = set(tasks) - set(ended)
    while left:
        for task in left:
            task.cancel()
        done, left = await asyncio.wait(left, timeout=ASK_AGAIN_S)
        ended.extend(done)
    for task in ended:
        if not task.cancelled():
            task.exception()  # seen, so that the loop does not report it
