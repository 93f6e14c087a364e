"""Opens connections to one origin: TCP or TLS, directly or through a proxy."""

import asyncio
import base64
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from aiohappyeyeballs import start_connection

from services.kit.settings import SettingsError
from services.router.adapters.http.connection import MAX_HEAD_BYTES, Connection, HttpError

HAPPY_EYEBALLS_S = 0.25
"""How long one address family is waited for before the other is tried, as RFC 8305 advises."""
PROBES = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 5),
)
"""TCP's own signs of life: an answer may take minutes, and silent connections are forgotten on the way."""


class UnreachableError(HttpError):
    """No connection could be made; nothing was sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Egress:
    """The way out of this network.

    Attributes:
        proxy: http://[user:password@]host:port by which https origins are reached; empty is directly.
            Origins without TLS are always reached directly.
        direct: Hosts that need no proxy, and domains whose hosts do not, separated by commas; `*` is all.
    """

    proxy: str = ""
    direct: str = ""

    def proxy_for(self, host: str) -> str:
        """The proxy to use for a host, or nothing."""
        for name in self.direct.split(","):
            domain = name.strip().lstrip(".").lower()
            if domain and (domain in ("*", host) or host.endswith(f".{domain}")):
                return ""
        return self.proxy


class Dialer:
    """Opens connections to an origin.

    Args:
        url: Of the origin; what follows host and port is not looked at.
        connect_timeout_s: For name, connection, proxy and TLS together.
        tls: Whom to trust; the system's authorities (or `SSL_CERT_FILE`) where left out.

    Raises SettingsError for a proxy that cannot be used.
    """

    def __init__(
        self, url: str, *, connect_timeout_s: float, egress: Egress, tls: ssl.SSLContext | None = None
    ) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._tls = None
        if parts.scheme == "https":
            self._tls = tls or ssl.create_default_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        self._port = parts.port or (443 if self._tls else 80)
        self._timeout_s = connect_timeout_s
        self._proxy = urlsplit(egress.proxy_for(self._host) if self._tls else "")
        if self._proxy.netloc and self._proxy.scheme != "http":
            raise SettingsError("HTTPS_PROXY: only proxies at http:// addresses can be used")
        self._late: set[asyncio.Task[tuple[asyncio.Transport, Connection]]] = set()
        """Under way for callers who are gone; each ends within the time to connect."""

    async def open(self, make: Callable[[], Connection], due: float) -> Connection:
        """A new connection; raises UnreachableError, at `due` at the latest."""
        try:
            async with asyncio.timeout(min(self._timeout_s, due - time.monotonic())):
                if self._tls is not None and self._proxy.hostname:
                    return await self._open_tunnel(make, self._tls, due)
                return await self._connect(make, self._host, self._port, self._tls)
        except TimeoutError:
            raise UnreachableError("no connection in time") from None
        except ssl.SSLCertVerificationError as error:
            raise UnreachableError(f"its certificate is refused: {error.verify_message}") from None
        except OSError as error:
            raise UnreachableError(error.strerror or type(error).__name__) from None

    async def _connect(
        self, make: Callable[[], Connection], host: str, port: int, tls: ssl.SSLContext | None
    ) -> Connection:
        dialling = asyncio.create_task(self._dial(make, host, port, tls))
        try:
            transport, connection = await asyncio.shield(dialling)
        except asyncio.CancelledError:
            # Cancelled itself, asyncio would lose a socket that was connected in that moment, open as it is.
            self._late.add(dialling)
            dialling.add_done_callback(self._end_late)
            raise
        _probe(transport.get_extra_info("socket"))
        return connection

    async def _dial(
        self, make: Callable[[], Connection], host: str, port: int, tls: ssl.SSLContext | None
    ) -> tuple[asyncio.Transport, Connection]:
        async with asyncio.timeout(self._timeout_s):
            loop = asyncio.get_running_loop()
            addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            # Not the loop's own way: uvloop has none that tries address families side by side.
            connected = await start_connection(addresses, happy_eyeballs_delay=HAPPY_EYEBALLS_S, interleave=1)
            try:
                return await loop.create_connection(
                    make, sock=connected, ssl=tls, server_hostname=host if tls else None
                )
            except BaseException:
                connected.close()
                raise

    def _end_late(self, dialling: asyncio.Task[tuple[asyncio.Transport, Connection]]) -> None:
        self._late.discard(dialling)
        if not dialling.cancelled() and dialling.exception() is None:
            dialling.result()[0].abort()

    async def _open_tunnel(
        self, make: Callable[[], Connection], tls: ssl.SSLContext, due: float
    ) -> Connection:
        proxy = self._proxy
        outer = await self._connect(_tunnel, proxy.hostname or "", proxy.port or 80, None)
        try:
            target = f"{self._host}:{self._port}"
            head = f"CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n"
            if proxy.username is not None:
                user = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
                head += f"proxy-authorization: Basic {base64.b64encode(user).decode()}\r\n"
            await outer.send(f"{head}\r\n".encode(), due=due, max_bytes=MAX_HEAD_BYTES)
            if not 200 <= outer.status < 300:
                raise UnreachableError(f"the proxy answered {outer.status}")
            inner = make()
            transport = await asyncio.get_running_loop().start_tls(
                outer.transport, inner, tls, server_hostname=self._host
            )
        except BaseException as error:
            outer.abort()
            if isinstance(error, HttpError) and not isinstance(error, UnreachableError):
                raise UnreachableError(f"the proxy: {error}") from None
            raise
        if transport is None:
            raise UnreachableError("the proxy closed the tunnel")
        inner.connection_made(transport)
        outer.hand_over()
        return inner


def _tunnel() -> Connection:
    return Connection(_pass_over, _pass_over)


def _pass_over(_: Connection) -> None:
    """A tunnel's first exchange is its only one."""


def _probe(connected: socket.socket) -> None:
    for option in PROBES:
        connected.setsockopt(*option)
