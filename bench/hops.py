"""What the way Envoy → gateway → router → provider costs: CPU µs a request, by process.

Usage: python -m bench.hops [--requests 3000] [--streams 1000] [--connections 64]

Starts the real suite twice, with each service in a process of its own and with gateway and router in one,
puts the provider double behind it, and sends chat completions through the edge: unary, and streams of 20
chunks. CPU time is what the kernel booked for each process (user and system) between the first and the last
request, so the load generator and the double do not count.
"""

import argparse
import asyncio
import json
import os
from pathlib import Path

import aiohttp

from tests.doubles.provider import ProviderDouble
from tests.e2e.suite import Suite, run_suite

CHUNKS = 20
MODEL = "gpt-6-luna"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """User and system time of a process and its threads so far, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


async def send(suite: Suite, *, requests: int, connections: int, stream: bool) -> dict[str, float]:
    """CPU µs a request by process, over `requests` requests on `connections` connections."""
    messages = [{"role": "user", "content": "Name a prime number, please."}]
    data = json.dumps({"model": MODEL, "messages": messages, "stream": stream}).encode()
    headers = {"authorization": f"Bearer {suite.api_key}", "content-type": "application/json"}
    left = iter(range(requests))

    async def worker(session: aiohttp.ClientSession) -> None:
        for _ in left:
            url = f"{suite.url}/v1/chat/completions"
            async with session.post(url, data=data, headers=headers) as response:
                answer = await response.read()
                if response.status != 200 or (stream and not answer.endswith(b"data: [DONE]\n\n")):
                    raise RuntimeError(f"{response.status}: {answer[:500]!r}")

    measured = {name: pid for name, pid in suite.pids().items() if name not in {"postgres", "redis"}}
    connector = aiohttp.TCPConnector(limit=connections)
    async with aiohttp.ClientSession(connector=connector) as session:
        before = {name: cpu_s(pid) for name, pid in measured.items()}
        await asyncio.gather(*(worker(session) for _ in range(connections)))
        after = {name: cpu_s(pid) for name, pid in measured.items()}
    return {name: (after[name] - before[name]) / requests * 1e6 for name in measured}


async def measure(options: argparse.Namespace) -> None:
    """Prints a row for each mode and kind of request."""
    async with ProviderDouble(chunks=CHUNKS, keep=1) as double:
        for title, colocate in (("separate", ""), ("co-located", "gateway,router")):
            async with run_suite(
                OPENAI_BASE_URL=double.openai_url,
                OPENAI_API_KEY="bench",
                QUARTET_COLOCATE=colocate,
                QUARTET_CLIENT_RPS="1000000",
            ) as suite:
                for kind, stream, requests in (
                    ("unary", False, options.requests),
                    (f"SSE of {CHUNKS} chunks", True, options.streams),
                ):
                    await send(suite, requests=requests // 5, connections=options.connections, stream=stream)
                    costs = await send(
                        suite, requests=requests, connections=options.connections, stream=stream
                    )
                    hot = {name: cost for name, cost in costs.items() if cost >= 1}
                    parts = ", ".join(f"{name} {cost:.0f}" for name, cost in sorted(hot.items()))
                    print(f"{title:10} {kind:16} {sum(hot.values()):6.0f} µs a request: {parts}", flush=True)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=3000, help="unary requests (default: 3000)")
    parser.add_argument("--streams", type=int, default=1000, help="streams (default: 1000)")
    parser.add_argument("--connections", type=int, default=64, help="connections (default: 64)")
    asyncio.run(measure(parser.parse_args()))


if __name__ == "__main__":
    main()
