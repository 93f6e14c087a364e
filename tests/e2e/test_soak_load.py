"""Half of what the suite can do, for half an hour: it ends as it began. Run by `make soak` only."""

import asyncio
import logging
import os
import random
import statistics
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

import aiohttp
import pytest
import pytest_asyncio

from services.kit import names
from services.kit.tasks import end
from services.kit.testing import OtlpReceiver, receive_otlp
from tests.doubles.provider import ProviderDouble
from tests.e2e.clients import Client, make_secrets, native_client, script
from tests.e2e.load import KINDS, Load, Tally
from tests.e2e.suite import Suite, run_suite
from tests.e2e.vitals import (
    Vitals,
    busier,
    envoy_gauge,
    half_closed,
    idle_tasks,
    read_vitals,
    reservations,
    until,
)

MINUTES = float(os.environ.get("SOAK_MINUTES", "30"))
SAMPLE_S = 10.0
CAPACITY_S = 30.0
WORKERS = 64
AT_ONCE = 256
"""More than half the load has under way, unless other programs take the machine."""
PEAK_S = 15.0
WATCHED = ("envoy", "gateway", "router", "pipeline", "orchestrator")
"""Whose memory must stay as it is; those of the stores grow with what they keep, up to their own bounds."""
GROWTH = 0.05
BUSY_SHARE = 0.02
"""Of the requests may be refused for want of capacity: other programs share the machine."""
REST_S = 40.0
"""Until idle connections to providers are closed."""
IDLE_TIMEOUT_S = 120.0
"""For connections that are kept open a while to be closed."""

log = logging.getLogger("soak")
Sample = Mapping[str, Vitals]


@pytest_asyncio.fixture
async def telemetry() -> AsyncIterator[OtlpReceiver]:
    """Of its own: the session's would keep each span."""
    async with receive_otlp() as receiver:
        yield receiver


@pytest_asyncio.fixture
async def double() -> AsyncIterator[ProviderDouble]:
    async with ProviderDouble(keep=1) as provider:
        yield provider


@pytest_asyncio.fixture
async def soaked(double: ProviderDouble, telemetry: OtlpReceiver) -> AsyncIterator[Suite]:
    """Every service in a process of its own, one trace in ten recorded."""
    async with run_suite(
        OTEL_EXPORTER_OTLP_ENDPOINT=telemetry.endpoint,
        OTEL_METRIC_EXPORT_INTERVAL="2000",
        OTEL_TRACES_SAMPLER_ARG="0.1",
        OPENAI_API_KEY="sk-soak",
        OPENAI_BASE_URL=double.openai_url,
        ANTHROPIC_API_KEY="sk-ant-soak",
        ANTHROPIC_BASE_URL=double.url,
        QUARTET_LOG_LEVEL="WARNING",
        # A busy machine is no store that is down.
        GATEWAY_ACCOUNT_TIMEOUT_S="2",
        GATEWAY_RESPONSE_LOG_TIMEOUT_S="2",
        ROUTER_ACCOUNT_TIMEOUT_S="2",
    ) as suite:
        await suite.quartet("ingest", "docs/errors.md")
        yield suite


@pytest.mark.soak
@pytest.mark.timeout(MINUTES * 60 + 1200)
async def test_at_half_its_capacity_memory_stays_and_nothing_is_left_open(
    soaked: Suite, double: ProviderDouble, telemetry: OtlpReceiver
) -> None:
    script(double)
    secrets, native = await make_secrets(soaked), native_client(soaked)
    try:
        async with connect(soaked) as api:
            load = Load(Client(api, native, secrets, random.Random(11)))
            for kind in KINDS:
                await load.send(kind)
            capacity = await load.saturate(CAPACITY_S, WORKERS)
            log.info("capacity: %.1f requests/s by %d clients", capacity, WORKERS)
            # The peak comes first: allocators keep what it took, and it is no growth when it comes again.
            await load.saturate(PEAK_S, AT_ONCE)
        assert not (leaks := await find_leaks(soaked, double, telemetry)), leaks
        await asyncio.sleep(REST_S)
        tasks, idle = await idle_tasks(telemetry), read_vitals(soaked)

        samples: list[Sample] = []
        async with connect(soaked) as api:
            load = Load(Client(api, native, secrets, random.Random(13)))
            watching = asyncio.create_task(watch(soaked, telemetry, load, samples))
            try:
                await load.pace(MINUTES * 60, capacity / 2, at_once=AT_ONCE)
            finally:
                await end(watching)
    finally:
        await native.close()
    leaks = await find_leaks(soaked, double, telemetry)
    ended = await until_sockets_close(soaked, idle)
    for line in (*describe_outcomes(load.tally), *describe_memory(samples, idle, ended)):
        log.info("%s", line)
    log.info("left: %s", leaks)
    assert not load.tally.wrong(KINDS), load.tally.wrong(KINDS)
    assert not leaks, leaks
    assert load.tally.busy <= BUSY_SHARE * load.tally.done, load.tally.outcomes
    assert not (grown := {name: share for name, share in growth(samples).items() if abs(share) > GROWTH}), (
        grown
    )
    assert not open_sockets(idle, ended), open_sockets(idle, ended)
    assert await until(lambda: not busier(telemetry, tasks)), busier(telemetry, tasks)


def connect(suite: Suite) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(suite.url, connector=aiohttp.TCPConnector(limit=0))


async def find_leaks(suite: Suite, double: ProviderDouble, telemetry: OtlpReceiver) -> list[str]:
    """Calls, half-closed sockets and reservations that are left when there was time to end them."""
    calls = await until(lambda: double.in_flight == 0)
    calls = calls and await until(lambda: telemetry.gauges.get(("gateway", names.CAPACITY_CALLS)) == 0)
    calls = calls and await envoy_gauge(suite, "cluster.gateway.upstream_rq_active") == 0
    await until(lambda: not half_closed(suite, double))
    held = await reservations(suite)
    return [
        *(() if calls else ("calls under way",)),
        *(f"half closed: {socket}" for socket in half_closed(suite, double)),
        *(f"reserved: {key} {what}" for key, what in held.items()),
    ]


async def until_sockets_close(suite: Suite, idle: Sample) -> Sample:
    end = time.monotonic() + IDLE_TIMEOUT_S
    while True:
        now = read_vitals(suite)
        if not open_sockets(idle, now) or time.monotonic() > end:
            return now
        await asyncio.sleep(1.0)


def open_sockets(idle: Sample, now: Sample) -> dict[str, int]:
    """How many more each part has than it had when idle."""
    more = {name: now[name].sockets - idle[name].sockets for name in WATCHED}
    return {name: count for name, count in more.items() if count > 0}


async def watch(suite: Suite, telemetry: OtlpReceiver, load: Load, samples: list[Sample]) -> None:
    """Takes a sample each ten seconds, and says each minute how it goes."""
    begun = time.monotonic()
    while True:
        await asyncio.sleep(begun + SAMPLE_S * (len(samples) + 1) - time.monotonic())
        telemetry.spans.clear()
        samples.append(now := await asyncio.to_thread(read_vitals, suite))
        if len(samples) % round(60 / SAMPLE_S) == 0:
            log.info("%s", describe_moment(now, load, telemetry, len(samples) * SAMPLE_S / 60))


def describe_moment(now: Sample, load: Load, telemetry: OtlpReceiver, minutes: float) -> str:
    tasks = sum(value for (_, name), value in telemetry.gauges.items() if name == names.TASKS)
    parts = " ".join(
        f"{name} {now[name].resident_bytes / 2**20:.1f}M {now[name].files}f" for name in sorted(now)
    )
    return (
        f"{minutes:.0f} min: {load.tally.done} done, {load.at_once} under way, {load.tally.busy} busy, "
        f"{sum(load.tally.wrong(KINDS).values())} wrong, {tasks:.0f} tasks, MiB/files: {parts}"
    )


def windows(samples: Sequence[Sample]) -> tuple[Sequence[Sample], Sequence[Sample]]:
    """The second sixth of the time, after the first has warmed all up, and the last."""
    window = max(1, len(samples) // 6)
    return samples[window : 2 * window], samples[-window:]


def growth(samples: Sequence[Sample]) -> dict[str, float]:
    """Of each part's memory between those windows, as a share."""
    warm, last = windows(samples)
    return {name: median_bytes(last, name) / median_bytes(warm, name) - 1 for name in WATCHED}


def median_bytes(samples: Sequence[Sample], name: str, kind: str = "resident_bytes") -> float:
    return float(statistics.median(getattr(sample[name], kind) for sample in samples))


def describe_outcomes(tally: Tally) -> Iterator[str]:
    yield f"{tally.done} requests, {tally.most_at_once} at once at most, {tally.held_back} left out"
    for kind in KINDS:
        cuts = statistics.quantiles([*tally.seconds.get(kind.name, ()), 0.0], n=100)
        counts = {outcome: count for (name, outcome), count in tally.outcomes.items() if name == kind.name}
        outcomes = ", ".join(f"{outcome}: {count}" for outcome, count in sorted(counts.items()))
        yield f"{kind.name:20} p50 {cuts[49] * 1e3:5.0f} ms  p99 {cuts[98] * 1e3:5.0f} ms  {outcomes}"


def describe_memory(samples: Sequence[Sample], idle: Sample, ended: Sample) -> Iterator[str]:
    yield "MiB     resident:  warm     end  growth   private:  warm     end  growth   sockets idle  most  end"
    for name in sorted(ended, key=lambda name: (name not in WATCHED, name)):
        most = max(sample[name].sockets for sample in samples)
        yield (
            f"{name:11} {describe_growth(samples, name, 'resident_bytes')} "
            f"  {describe_growth(samples, name, 'private_bytes')} "
            f"  {idle[name].sockets:12} {most:5} {ended[name].sockets:4}"
        )


def describe_growth(samples: Sequence[Sample], name: str, kind: str) -> str:
    warm, last = (median_bytes(window, name, kind) / 2**20 for window in windows(samples))
    return f"{warm:11.1f} {last:7.1f} {last / warm - 1:+8.1%}"
