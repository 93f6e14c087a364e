"""How a streamed answer ends for its reader: once, with a completion or an error."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeVar

from quartet.common.v1 import decision_pb2, generation_pb2
from services.kit.errors import QuartetError, Unavailable

DRAIN_TIMEOUT_S = 1.0
"""For the peer's status behind a completion: a stream that is left before it counts as cancelled."""

E = TypeVar("E")


async def end_once(events: AsyncGenerator[E]) -> AsyncGenerator[E]:
    """The events up to the first completion; what comes behind it can change nothing any more.

    Raises:
        Unavailable: they begin without a decision.
    """
    begun = False
    async with aclosing(events):
        async for event in events:
            if not begun and not isinstance(event, decision_pb2.Decision):
                raise ended_early("router")
            begun = True
            yield event
            if isinstance(event, generation_pb2.Completion):
                with contextlib.suppress(QuartetError, TimeoutError):
                    async with asyncio.timeout(DRAIN_TIMEOUT_S):
                        async for _ in events:
                            pass
                return


def ended_early(peer: str) -> Unavailable:
    """The error of an answer without its end."""
    message = f"the {peer} ended its answer before it was complete: try again"
    return Unavailable(message, reason="ANSWER_INCOMPLETE", metadata={"peer": peer})


def interleaved() -> Unavailable:
    """The error for tool calls that a model writes at once, in a stream whose blocks follow each other."""
    message = (
        "the model goes on with a tool call after the next one began, which this dialect's streams cannot "
        "show: ask for the whole answer, or forbid parallel tool calls"
    )
    return Unavailable(message, reason="CALLS_INTERLEAVED")
