"""Reads server-sent events off a stream of bytes: the data of each, and nothing else."""

MAX_EVENT_BYTES = 8 * 1024 * 1024
"""Longest event; more is a fault of the sender."""


class FramingError(Exception):
    """The bytes are no events; the message says why."""


class EventReader:
    """Puts events together from bytes as they come.

    Field names other than `data` are passed over, comments too: the events of the model providers carry
    their type in the data as well. Several `data:` lines of an event are joined by line feeds.
    """

    __slots__ = ("_data", "_data_bytes", "_pending", "_pending_bytes")

    def __init__(self) -> None:
        self._pending: list[bytes] = []
        self._data: list[bytes] = []
        self._pending_bytes = self._data_bytes = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of each event that is complete now; raises FramingError for one without an end."""
        lines = chunk.split(b"\n")
        if len(lines) > 1 and self._pending:
            lines[0] = b"".join((*self._pending, lines[0]))
            self._pending = []
            self._pending_bytes = 0
        rest = lines.pop()
        events: list[bytes] = []
        data = self._data
        for line in lines:
            if line.startswith(b"data:"):
                data.append(line[5:].removesuffix(b"\r").removeprefix(b" "))
                self._data_bytes += len(line)
            elif line in _BLANK and data:
                events.append(data[0] if len(data) == 1 else b"\n".join(data))
                data.clear()
                self._data_bytes = 0
        if rest:
            self._pending.append(rest)
            self._pending_bytes += len(rest)
        if self._pending_bytes + self._data_bytes > MAX_EVENT_BYTES:
            raise FramingError("an event has no end")
        return events


_BLANK = (b"", b"\r")
