"""A vendor's SDK as an HTTP client of the router: it addresses, signs and sends; nothing else is left to it.

The request is the one that our own client would send, the answer is read as bytes: formats, retries,
timeouts and errors stay those of all providers.
"""

import asyncio
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, ClassVar, Protocol, Self

import httpx2
import orjson

from services.router.adapters.anthropic.provider import SAMPLING_VERSION
from services.router.adapters.http.client import LINGER_S
from services.router.adapters.http.connection import HttpError, SilentError
from services.router.adapters.http.dialing import Egress, UnreachableError
from services.router.adapters.sdk.egress import EgressTransport
from services.router.adapters.transport import SERVER_SENT_EVENTS, Framing

_UNSENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError)


class Sdk(Protocol):
    """What the asynchronous clients of OpenAI's and Anthropic's SDKs have in common."""

    async def post(
        self, path: str, *, cast_to: Any, body: Any, options: Any, stream: Any, stream_cls: Any
    ) -> Any: ...

    async def close(self) -> None: ...


class SdkResponse:
    """An answer under way: its head is there, its body comes; leaving the block ends the exchange."""

    def __init__(self, response: httpx2.Response, *, due: float, max_bytes: int) -> None:
        self._response = response
        self._chunks = response.aiter_bytes()
        self._due = due
        self._received, self._max_bytes = 0, max_bytes
        self.status = response.status_code
        self.headers: Mapping[str, str] = {name.lower(): value for name, value in response.headers.items()}
        self.is_over = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self.is_over and error is None:
                await self._linger()
        finally:
            await self._response.aclose()

    def allow(self, due: float) -> None:
        """Moves the time, of `time.monotonic()`, at which silence ends the exchange."""
        self._due = due

    async def read(self) -> bytes:
        """Some of the body; waits for it, and is empty at its end."""
        try:
            async with asyncio.timeout(self._due - time.monotonic()):
                chunk = await anext(self._chunks, b"")
        except TimeoutError:
            raise SilentError("nothing came in time") from None
        except httpx2.HTTPError as error:
            raise HttpError(str(error) or type(error).__name__) from None
        self._received += len(chunk)
        if self._received > self._max_bytes:
            raise HttpError(f"it is longer than {self._max_bytes} bytes")
        return chunk

    async def _linger(self) -> None:
        """Reads on to the end that follows the last event, so that the connection is kept."""
        self.allow(time.monotonic() + LINGER_S)
        try:
            while await self.read():
                pass
        except HttpError:
            return


class SdkClient:
    """Posts by an SDK client, which never tries anything twice.

    Args:
        status_error: What the SDK raises for a status that is no success; it holds the `response`.
        connection_error: What it raises when there is no answer.
    """

    framing: ClassVar[Framing] = SERVER_SENT_EVENTS
    """Of its streams."""

    def __init__(self, sdk: Sdk, *, status_error: type[Exception], connection_error: type[Exception]) -> None:
        self._sdk = sdk
        self._status_error = status_error
        self._connection_error = connection_error

    async def post(
        self, path: str, body: bytes, headers: Mapping[str, str], *, due: float, max_bytes: int
    ) -> SdkResponse:
        """As `HttpClient.post`; raises CredentialsError, too."""
        content, sent = orjson.loads(body), dict(headers)
        try:
            async with asyncio.timeout(due - time.monotonic()):
                await self._prepare(content, sent)
                response = await self._sdk.post(
                    path,
                    cast_to=httpx2.Response,
                    body=content,
                    options={"headers": sent},
                    stream=True,
                    stream_cls=None,
                )
        except TimeoutError:
            raise SilentError("nothing came in time") from None
        except self._status_error as refusal:
            response = getattr(refusal, "response")  # noqa: B009 - of either SDK's class
        except self._connection_error as error:
            raise _translate(error.__cause__ or error) from None
        return SdkResponse(response, due=due, max_bytes=max_bytes)

    async def close(self) -> None:
        """Closes the connections."""
        await self._sdk.close()

    async def _prepare(self, body: dict[str, Any], headers: dict[str, str]) -> None:
        """Adds what a vendor wants beside the format."""


def open_http(egress: Egress, connect_timeout_s: float) -> httpx2.AsyncClient:
    """What an SDK client sends with; how long an answer may take is said for each call."""
    timeout = httpx2.Timeout(None, connect=connect_timeout_s, pool=connect_timeout_s)
    return httpx2.AsyncClient(
        transport=EgressTransport(egress), timeout=timeout, follow_redirects=False, trust_env=False
    )


def state_version(body: dict[str, Any], headers: dict[str, str], *, older: str) -> None:
    """Moves the API's version into the body, where the clouds look for it.

    `older` is what they call the version before the newest.
    """
    version = headers.pop("anthropic-version")
    body["anthropic_version"] = older if version == SAMPLING_VERSION else version


def _translate(error: BaseException) -> HttpError:
    text = str(error) or type(error).__name__
    return UnreachableError(text) if isinstance(error, _UNSENT) else HttpError(text)
