"""What a running suite holds: memory, sockets, tasks, calls, reservations; from the kernel and its gauges."""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from redis.asyncio import Redis

from services.cli.settings import SERVICES
from services.cli.stack.ports import PARTS
from services.kit import names
from services.kit.testing import OtlpReceiver
from tests.doubles.provider import ProviderDouble
from tests.e2e.suite import Suite

SPARE_TASKS = 2
SETTLE_S = 45.0
"""For all to come to rest on a busy machine. How soon it is in fact, bench.cancel tells."""
CLOSE_WAIT = "08"
"""In /proc/net/tcp, as include/net/tcp_states.h numbers it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """One part of the suite at one time, all its processes together.

    Attributes:
        resident_bytes: Memory, with what of the programs' files is mapped.
        private_bytes: Of it what is in no file: heaps and stacks.
        files: Open ones, sockets among them.
        sockets: Open ones, but for those to the stores: such pools grow to their bound and stay.
    """

    resident_bytes: int
    private_bytes: int
    files: int
    sockets: int


def read_vitals(suite: Suite) -> dict[str, Vitals]:
    """Of every part, by name."""
    children = _children()
    stores = {int(suite.environment[f"QUARTET_{part}_PORT"]) for part in ("POSTGRES", "REDIS")}
    pooled = {f"socket:[{row[9]}]" for row in _connections() if port_of(row[2]) in stores}
    return {name: _vitals_of(list(_family(pid, children)), pooled) for name, pid in suite.pids().items()}


def _vitals_of(pids: list[int], pooled: set[str]) -> Vitals:
    links = [link for pid in pids for link in _open_files(pid)]
    memory = [_memory_bytes(pid) for pid in pids]
    return Vitals(
        resident_bytes=sum(resident for resident, _ in memory),
        private_bytes=sum(private for _, private in memory),
        files=len(links),
        sockets=sum(link.startswith("socket:") and link not in pooled for link in links),
    )


def _memory_bytes(pid: int) -> tuple[int, int]:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0, 0  # it has ended meanwhile
    kilobytes = {line.split()[0]: int(line.split()[1]) for line in lines[1:]}
    return kilobytes["Rss:"] * 1024, kilobytes["Anonymous:"] * 1024


def _open_files(pid: int) -> Iterator[str]:
    try:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                yield str(link.readlink())
            except FileNotFoundError:
                continue
    except (FileNotFoundError, ProcessLookupError):
        return


def _children() -> dict[int, list[int]]:
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    return children


def _family(pid: int, children: Mapping[int, list[int]]) -> Iterator[int]:
    yield pid
    for child in children.get(pid, ()):
        yield from _family(child, children)


def reason_of(answer: bytes) -> str:
    """Why a call was refused, by any of the three shapes of errors."""
    try:
        value = json.loads(answer)
    except ValueError:
        return f"no JSON: {answer[:60]!r} … {answer[-200:]!r}"
    if "error" in value:
        return str(value["error"]["quartet"]["reason"])
    return next(
        (str(detail["reason"]) for detail in value.get("details", ()) if "reason" in detail), str(value)
    )


async def until(holds: Callable[[], bool], timeout_s: float = SETTLE_S) -> bool:
    """Whether it holds within the time."""
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout_s
    while not holds():
        if loop.time() > end:
            return False
        await asyncio.sleep(0.1)
    return True


async def envoy_gauge(suite: Suite, name: str) -> int:
    url = f"http://127.0.0.1:{suite.environment['QUARTET_ENVOY_ADMIN_PORT']}/stats?filter=^{name}$"
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        return int((await response.text()).rpartition(":")[2])


def half_closed(suite: Suite, provider: ProviderDouble) -> list[str]:
    """Sockets of the suite's that the other side has closed and ours holds on to, by the parts' names."""
    parts = {int(suite.environment[f"QUARTET_{part.upper()}_PORT"]): part for part in PARTS}
    parts[int(provider.url.rpartition(":")[2])] = "provider"
    ends = [(port_of(row[1]), port_of(row[2])) for row in _connections() if row[3] == CLOSE_WAIT]
    return [
        f"{parts.get(here, here)} to {parts.get(there, there)}"
        for here, there in ends
        if here in parts or there in parts
    ]


def _connections() -> list[list[str]]:
    """The rows of the kernel's table: local address, remote one and state in 1 to 3, the inode in 9."""
    return [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2], 16)


async def make_key(suite: Suite, name: str, *, input_tokens: int | None = None, **quotas: int) -> str:
    """The secret of a key that may do everything within its quotas."""
    options = [option for quota, value in quotas.items() for option in ("--quota", f"{quota}={value}")]
    if input_tokens is not None:
        options += ("--input-tokens", str(input_tokens))
    made: dict[str, Any] = json.loads(
        await suite.quartet("keys", "create", name, "--scope", "*", *options, "--json")
    )
    return str(made["secret"])


async def limited_key(suite: Suite) -> str:
    """A key with limits that nothing here reaches, so that every call has an account."""
    quotas = ("tokens_per_minute", "tokens_per_day", "micro_usd_per_day", "concurrent_calls")
    return await make_key(suite, "limited", **dict.fromkeys(quotas, 1_000_000_000))


async def reservations(suite: Suite) -> dict[str, str]:
    """Accounts and places that do not come to nothing, by key, with what they hold."""
    port = suite.environment["QUARTET_REDIS_PORT"]
    password = (suite.home / "redis.password").read_text(encoding="ascii").strip()
    async with Redis.from_url(f"redis://:{password}@127.0.0.1:{port}/0") as redis:
        loop = asyncio.get_running_loop()
        end = loop.time() + SETTLE_S
        while loop.time() < end:
            held = [
                key
                for pattern in ("account:*", "accounts", "places:*")
                async for key in redis.scan_iter(f"quartet:{{default}}:{pattern}")
            ]
            if not held:
                return {}
            await asyncio.sleep(0.2)
        return {key.decode(): str(await _read(redis, key)) for key in held}


async def _read(redis: Redis, key: bytes) -> Any:
    if await redis.type(key) == b"zset":
        return await redis.zrange(key, 0, -1, withscores=True)
    return await redis.hgetall(key)


async def idle_tasks(spans: OtlpReceiver) -> dict[str, float]:
    """How many tasks each service has with nothing to do, and a few for what it does of its own accord."""
    spans.gauges.clear()
    assert await until(lambda: all((name, names.TASKS) in spans.gauges for name in SERVICES))
    return {name: spans.gauges[name, names.TASKS] + SPARE_TASKS for name in SERVICES}


def busier(spans: OtlpReceiver, tasks: Mapping[str, float]) -> dict[str, float]:
    """The services that have more tasks than they had when idle, and how many."""
    now = {name: spans.gauges[name, names.TASKS] for name in SERVICES}
    return {name: count for name, count in now.items() if count > tasks[name]}
