"""Posts JSON by a vendor's SDK client, and turns every way of failing into an error of the tree.

The SDKs own addresses, headers and connection pools; bodies are written and read here as bytes, since
building the SDKs' objects for every chunk would cost more than all the rest.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import monotonic, time
from typing import Any

import httpx2
import orjson

from services.kit.call import Call
from services.kit.errors import QuartetError
from services.router.adapters.sse import EventTooLongError, read_events
from services.router.domain import failures

CONNECT_TIMEOUT_S = 10.0
DRAIN_TIMEOUT_S = 0.05
MAX_BODY_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class SdkErrors:
    """The classes by which an SDK names its failures."""

    status: type[Exception]
    timeout: type[Exception]
    connection: type[Exception]


class SdkTransport:
    """A vendor's SDK client, used for raw requests.

    Args:
        client: `AsyncOpenAI` or `AsyncAnthropic`, with its own retries off.
        stream_type: The SDK's stream class, which its raw mode wants named.
    """

    def __init__(self, client: Any, stream_type: type[Any], errors: SdkErrors, *, provider: str) -> None:
        self._client = client
        self._stream_type = stream_type
        self._errors = errors
        self.provider = provider

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.close()

    async def post(
        self, path: str, body: bytes, *, model: str, call: Call, headers: Mapping[str, str] | None = None
    ) -> Any:
        """The JSON that comes back; raises errors of `domain.failures`."""
        content = bytearray()
        async with self._open(path, body, model, call, "application/json", headers) as response:
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > MAX_BODY_BYTES:
                    raise failures.interrupted(self.provider, model, f"more than {MAX_BODY_BYTES} bytes")
        return self.read_json(bytes(content), model)

    async def stream(
        self,
        path: str,
        body: bytes,
        *,
        is_last: Callable[[bytes], bool],
        model: str,
        call: Call,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[bytes | None]:
        """None once the provider has accepted, then the data of each event.

        Raises errors of `domain.failures`.
        """
        async with self._open(path, body, model, call, "text/event-stream", headers) as response:
            yield None
            chunks = response.aiter_bytes()
            async for data in read_events(chunks):
                yield data
                if is_last(data):
                    await _drain(chunks)
                    return

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
        model: str,
        call: Call,
        media_type: str,
        headers: Mapping[str, str] | None,
    ) -> AsyncGenerator[httpx2.Response]:
        remaining_s = call.remaining_s()
        response: httpx2.Response | None = None
        try:
            response = await self._client.post(
                path,
                cast_to=httpx2.Response,
                content=body,
                options={
                    "timeout": httpx2.Timeout(remaining_s, connect=min(CONNECT_TIMEOUT_S, remaining_s)),
                    "headers": {"content-type": "application/json", **(headers or {})},
                },
                stream=True,
                stream_cls=self._stream_type,
            )
            received = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            if received != media_type:
                detail = f"it came as {received or 'nothing'} instead of {media_type}"
                raise failures.interrupted(self.provider, model, detail)
            yield response
        except self._errors.status as error:
            raise self._refusal(error, model) from None
        except (self._errors.timeout, httpx2.TimeoutException) as error:
            raise self._timeout(error, model, call) from None
        except self._errors.connection as error:
            detail = type(error.__cause__ or error).__name__
            raise failures.unreachable(self.provider, model, detail) from None
        except httpx2.RequestError as error:
            raise failures.interrupted(self.provider, model, type(error).__name__) from None
        except EventTooLongError:
            raise failures.interrupted(self.provider, model, "an event has no end") from None
        finally:
            if response is not None:
                await response.aclose()

    def _refusal(self, error: Any, model: str) -> QuartetError:
        body = error.body
        fields = body.get("error", body) if isinstance(body, dict) else {}
        message = fields.get("message", "") if isinstance(fields, dict) else ""
        return failures.from_http_status(
            error.status_code,
            message if isinstance(message, str) else "",
            provider=self.provider,
            model=model,
            retry_after_s=_retry_after_s(error.response.headers),
        )

    def _timeout(self, error: Exception, model: str, call: Call) -> QuartetError:
        """No connection while there is time left means a provider that cannot be reached."""
        cause = error.__cause__ or error
        if isinstance(cause, httpx2.ConnectTimeout) and call.deadline > monotonic():
            return failures.unreachable(self.provider, model, "no connection")
        return failures.out_of_time(self.provider, model)


async def _drain(chunks: AsyncIterator[bytes]) -> None:
    """Reads what follows the last event, nothing as a rule: only then is the connection used again."""
    try:
        async with asyncio.timeout(DRAIN_TIMEOUT_S):
            async for _ in chunks:
                pass
    except TimeoutError:
        return


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds from `retry-after-ms`, or from `retry-after` as a number or a date.

    None when neither can be read.
    """
    milliseconds, seconds = headers.get("retry-after-ms"), headers.get("retry-after")
    try:
        if milliseconds:
            return max(0.0, float(milliseconds) / 1000)
        if seconds:
            return max(0.0, float(seconds))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(seconds).timestamp() - time()) if seconds else None
    except ValueError:
        return None
