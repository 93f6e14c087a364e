"""Posts JSON to a provider, and turns every way of failing into an error of the tree."""

import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

import orjson

from services.kit.call import Call
from services.kit.errors import QuartetError
from services.router.adapters.http.connection import CredentialsError, HttpError, SilentError
from services.router.adapters.http.dialing import UnreachableError
from services.router.adapters.sse import EventReader, FramingError
from services.router.adapters.waiting import read_rest_s, read_retry_after_s
from services.router.domain import failures

JSON = "application/json"

COMMON_HEADERS = {
    "accept": JSON,
    "accept-encoding": "identity",
    "content-type": JSON,
    "user-agent": "quartet",
}
"""Of every request; the accepted type is that of the vendors' own clients, for streams, too."""

NO_KEY = "none"
"""Sent where a server wants no key: some want at least the header."""

MAX_REFUSAL_BYTES = 1024 * 1024
STREAM_FACTOR = 8
"""How much longer than a whole answer a stream of it may be: each token comes in an envelope of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long and how much a provider may take, within the deadline of the call.

    Attributes:
        first_token_s: Longest silence of a stream before its first word.
        between_tokens_s: Longest silence after it, in streams.
        max_answer_bytes: Longest whole answer.
    """

    first_token_s: float = 120.0
    between_tokens_s: float = 60.0
    max_answer_bytes: int = 64 * 1024 * 1024


class Reader(Protocol):
    """Cuts a stream of bytes into the data of its events."""

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of each event that is complete now; raises FramingError."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Framing:
    """How a provider sends the events of a stream."""

    media_type: str
    reader: Callable[[], Reader]


SERVER_SENT_EVENTS = Framing(media_type="text/event-stream", reader=EventReader)


class Response(Protocol):
    """An answer under way: its head is there, its body comes; leaving the block ends the exchange."""

    status: int
    headers: Mapping[str, str]
    is_over: bool

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    async def read(self) -> bytes: ...

    def allow(self, due: float) -> None: ...


class Client(Protocol):
    """Posts to one provider: `http.client.HttpClient`, or a vendor's SDK behind the same methods."""

    async def post(
        self, path: str, body: bytes, headers: Mapping[str, str], *, due: float, max_bytes: int
    ) -> Response: ...

    async def close(self) -> None: ...


class EventStream:
    """A stream of events that a provider has begun."""

    def __init__(self, response: Response, reader: Reader, patience: Patience, deadline: float) -> None:
        self._response = response
        self._reader = reader
        self._patience = patience
        self._deadline = deadline
        self.has_word = False
        """Set by its reader at the answer's first word: from then on silence is borne less long."""

    async def read(self) -> list[bytes]:
        """The data of the events that have come since; waits for some, and is empty at the end.

        Silence is counted between whole events: bytes that drip are none.
        """
        patience = self._patience
        silence_s = patience.between_tokens_s if self.has_word else patience.first_token_s
        self._response.allow(min(self._deadline, time.monotonic() + silence_s))
        while chunk := await self._response.read():
            if events := self._reader.feed(chunk):
                return events
        return []

    def finish(self) -> None:
        """Tells that nothing more is expected, so that the connection can be used again."""
        self._response.is_over = True


class Transport:
    """Requests to one provider.

    Args:
        provider: Its name in `models.yaml`.
        note_rest: Is told the model and the seconds for which the provider has nothing left for it.
        framing: Of its streams.
    """

    def __init__(
        self,
        client: Client,
        patience: Patience,
        *,
        provider: str,
        note_rest: Callable[[str, float], None] | None = None,
        framing: Framing = SERVER_SENT_EVENTS,
    ) -> None:
        self._client = client
        self._framing = framing
        self.patience = patience
        self.provider = provider
        self._note_rest = note_rest

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.close()

    async def post(
        self, path: str, body: bytes, *, model: str, call: Call, headers: Mapping[str, str]
    ) -> Any:
        """The JSON that comes back; raises errors of `domain.failures`."""
        async with self._open(path, body, JSON, model, call, headers, self.patience) as response:
            return self.read_json(await _read_all(response), model)

    @asynccontextmanager
    async def stream(
        self,
        path: str,
        body: bytes,
        *,
        model: str,
        call: Call,
        headers: Mapping[str, str],
        patience: Patience | None = None,
    ) -> AsyncGenerator[EventStream]:
        """The events that come back, once the provider has accepted; raises errors of `domain.failures`."""
        patience = patience or self.patience
        framing = self._framing
        async with self._open(path, body, framing.media_type, model, call, headers, patience) as response:
            yield EventStream(response, framing.reader(), patience, call.deadline)

    def read_json(self, content: bytes, model: str) -> Any:
        """Parses what a provider sent; raises `interrupted` when it is no JSON."""
        try:
            return orjson.loads(content)
        except orjson.JSONDecodeError:
            raise failures.interrupted(self.provider, model, "it is not JSON") from None

    @asynccontextmanager
    async def _open(
        self,
        path: str,
        body: bytes,
        media_type: str,
        model: str,
        call: Call,
        headers: Mapping[str, str],
        patience: Patience,
    ) -> AsyncGenerator[Response]:
        call.remaining_s()
        due, max_bytes = call.deadline, patience.max_answer_bytes
        if media_type != JSON:
            due = min(due, time.monotonic() + patience.first_token_s)
            max_bytes *= STREAM_FACTOR
        accepted = False
        try:
            async with await self._client.post(path, body, headers, due=due, max_bytes=max_bytes) as response:
                accepted = True
                if self._note_rest is not None and (rest_s := read_rest_s(response.headers)):
                    self._note_rest(model, rest_s)
                if not 200 <= response.status < 300:
                    raise await self._refusal(response, model)
                self._check_type(response, media_type, model)
                yield response
        except HttpError as error:
            raise self._translate(error, model, call, accepted=accepted) from None
        except FramingError as error:
            raise failures.interrupted(self.provider, model, str(error)) from None

    def _check_type(self, response: Response, media_type: str, model: str) -> None:
        received = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if received != media_type:
            detail = f"it came as {received or 'nothing'} instead of {media_type}"
            raise failures.interrupted(self.provider, model, detail)
        coding = response.headers.get("content-encoding", "identity")
        if coding != "identity":
            raise failures.interrupted(self.provider, model, f"it came as {coding}, which was not asked for")

    async def _refusal(self, response: Response, model: str) -> QuartetError:
        try:
            body = orjson.loads(await _read_all(response, MAX_REFUSAL_BYTES))
        except orjson.JSONDecodeError:
            body = None
        fields = body.get("error", body) if isinstance(body, dict) else {}
        said = fields if isinstance(fields, dict) else {"message": fields}
        return failures.from_http_status(
            response.status,
            _text(said, "message"),
            provider=self.provider,
            model=model,
            retry_after_s=read_retry_after_s(response.headers),
            param=_text(said, "param"),
            code=_text(said, "code"),
        )

    def _translate(self, error: HttpError, model: str, call: Call, *, accepted: bool) -> QuartetError:
        if isinstance(error, (SilentError, UnreachableError)) and call.deadline <= time.monotonic():
            return failures.out_of_time(self.provider, model)
        if isinstance(error, CredentialsError):
            return failures.from_http_status(401, str(error), provider=self.provider, model=model)
        if accepted:
            return failures.interrupted(self.provider, model, str(error))
        return failures.unreachable(self.provider, model, str(error))


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""


async def _read_all(response: Response, max_bytes: int | None = None) -> bytes:
    """The body, cut after `max_bytes`."""
    chunks: list[bytes] = []
    size = 0
    while (max_bytes is None or size < max_bytes) and (chunk := await response.read()):
        chunks.append(chunk)
        size += len(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
