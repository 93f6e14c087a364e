"""Where an issuer's JWKS is read from."""

import asyncio
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

MAX_KEY_SET_BYTES = 256 * 1024
FETCH_TIMEOUT_S = 5.0

Fetch = Callable[[], Awaitable[bytes]]


class FetchError(Exception):
    """The key set could not be had; the message says why."""


def key_source(place: str) -> Fetch:
    """Reads the JWKS at a URL or in a file; raises ValueError for a URL that is not safe to trust."""
    if "://" not in place:
        return lambda: asyncio.to_thread(_read, Path(place))
    url = urlsplit(place)
    if url.scheme != "https" and not (url.scheme == "http" and _is_loopback(url.hostname or "")):
        raise ValueError("must be an https:// URL or a path: keys that come unencrypted can be anybody's")
    return lambda: _fetch(place)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return _bounded(file.read(MAX_KEY_SET_BYTES + 1))
    except OSError as error:
        raise FetchError(f"cannot read {path}: {error.strerror}") from None


async def _fetch(url: str) -> bytes:
    """A redirect is an error: whoever answers for the issuer must do so himself."""
    timeout = aiohttp.ClientTimeout(total=FETCH_TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session,
            session.get(url, allow_redirects=False, headers={"accept-encoding": "identity"}) as response,
        ):
            if response.status != 200:
                raise FetchError(f"{url} answered {response.status}")
            data = bytearray()
            async for chunk in response.content.iter_chunked(64 * 1024):
                data += _bounded(chunk, so_far=len(data))
            return bytes(data)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise FetchError(f"{url} does not answer: {type(error).__name__}") from None


def _bounded(data: bytes, *, so_far: int = 0) -> bytes:
    if so_far + len(data) > MAX_KEY_SET_BYTES:
        raise FetchError(f"it is longer than {MAX_KEY_SET_BYTES} bytes")
    return data


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
