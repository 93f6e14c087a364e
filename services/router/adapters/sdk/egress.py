"""The way out for the vendors' SDKs: the same authorities, proxy and bounds as for every other provider."""

import ssl
from collections.abc import AsyncIterator

import httpx2

from services.router.adapters.http.client import IDLE_S, MAX_CONNECTIONS, MAX_IDLE
from services.router.adapters.http.dialing import PROBES, Egress
from services.router.adapters.transport import MAX_REFUSAL_BYTES


class EgressTransport(httpx2.AsyncBaseTransport):
    """Sends an SDK's requests, by the proxy where one is set for their host.

    The SDKs read a refusal whole before they tell of it: here it is cut after MAX_REFUSAL_BYTES.
    """

    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        self._direct = _open(None)
        self._proxied = _open(egress.proxy) if egress.proxy else None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """As the base class has it."""
        is_proxied = request.url.scheme == "https" and self._egress.proxy_for(request.url.host)
        way = self._proxied if is_proxied and self._proxied is not None else self._direct
        response = await way.handle_async_request(request)
        if not response.is_success and isinstance(response.stream, httpx2.AsyncByteStream):
            response.stream = _Refusal(response.stream)
            # Unpacked, the little that is let in could be a thousand times as much.
            response.headers.pop("content-encoding", None)
        return response

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._direct.aclose()
        if self._proxied is not None:
            await self._proxied.aclose()


class _Refusal(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._stream:
            yield chunk
            size += len(chunk)
            if size >= MAX_REFUSAL_BYTES:
                return

    async def aclose(self) -> None:
        await self._stream.aclose()


def _open(proxy: str | None) -> httpx2.AsyncHTTPTransport:
    limits = httpx2.Limits(
        max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_IDLE, keepalive_expiry=IDLE_S
    )
    return httpx2.AsyncHTTPTransport(
        verify=ssl.create_default_context(),
        trust_env=False,
        limits=limits,
        proxy=proxy,
        socket_options=PROBES,
    )
