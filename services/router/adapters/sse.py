"""Reads server-sent events off a stream of bytes: the data of each, and nothing else."""

from collections.abc import AsyncIterable, AsyncIterator

MAX_EVENT_BYTES = 8 * 1024 * 1024
"""Longest event; more is a fault of the sender."""


class EventTooLongError(Exception):
    """An event has no end within MAX_EVENT_BYTES."""


async def read_events(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The data of each event that is complete; several `data:` lines are joined by line feeds.

    Field names other than `data` are passed over, comments too: the events of the model providers carry
    their type in the data as well. Raises EventTooLongError.
    """
    pending = b""
    data: list[bytes] = []
    async for chunk in chunks:
        lines = (pending + chunk).split(b"\n")
        pending = lines.pop()
        for line in lines:
            text = line.removesuffix(b"\r")
            if text.startswith(b"data:"):
                data.append(text[5:].removeprefix(b" "))
            elif not text and data:
                yield data[0] if len(data) == 1 else b"\n".join(data)
                data = []
        if len(pending) + sum(map(len, data)) > MAX_EVENT_BYTES:
            raise EventTooLongError
