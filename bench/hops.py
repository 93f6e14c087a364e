"""What the way Envoy → gateway → router → provider costs: CPU µs a request, by process.

Usage: python -m bench.hops [--requests 3000] [--streams 1000] [--connections 64] [--paced 200]

Starts the real suite twice, with each service in a process of its own and with gateway and router in one,
puts the provider double behind it, and sends chat completions through the edge: unary, and streams of 20
chunks that the double writes at once. Then it sends streams whose chunks come one by one, with a pause before
each, as from a real model, short ones and long ones: what the long ones cost more, divided by the chunks that
they have more, is the cost of a relayed chunk. CPU time is what the kernel booked for each process (user and
system) between the first and the last request, so the load generator and the double do not count.
"""

import argparse
import asyncio
import json

import aiohttp

from bench.process import cpu_ns
from tests.doubles.provider import Fault, Match, ProviderDouble, Reply
from tests.e2e.suite import Suite, run_suite

CHUNKS = 20
SHORT, LONG = 10, 110
"""Chunks of the paced streams."""
MODEL = "gpt-6-luna"
STORES = {"postgres", "redis"}


async def send(
    suite: Suite, *, requests: int, connections: int, stream: bool, text: str = "Name a prime number, please."
) -> dict[str, float]:
    """CPU µs a request by process, over `requests` requests on `connections` connections."""
    messages = [{"role": "user", "content": text}]
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

    measured = {name: pid for name, pid in suite.pids().items() if name not in STORES}
    connector = aiohttp.TCPConnector(limit=connections)
    async with aiohttp.ClientSession(connector=connector) as session:
        before = {name: cpu_ns(pid) for name, pid in measured.items()}
        await asyncio.gather(*(worker(session) for _ in range(connections)))
        after = {name: cpu_ns(pid) for name, pid in measured.items()}
    return {name: (after[name] - before[name]) / requests / 1e3 for name in measured}


async def send_paced(suite: Suite, options: argparse.Namespace) -> dict[str, float]:
    """CPU µs a relayed chunk by process."""
    costs: list[dict[str, float]] = []
    for chunks in (SHORT, LONG):
        text = f"Say {chunks} words."
        connections = min(options.connections, options.paced)
        costs.append(
            await send(suite, requests=options.paced, connections=connections, stream=True, text=text)
        )
    short, long = costs
    return {name: (long[name] - short[name]) / (LONG - SHORT) for name in short}


def describe(costs: dict[str, float], unit: str, least: float) -> str:
    """The sum, and the processes that have a part in it."""
    hot = {name: cost for name, cost in costs.items() if cost >= least}
    parts = ", ".join(f"{name} {cost:.0f}" for name, cost in sorted(hot.items()))
    return f"{sum(hot.values()):6.0f} µs a {unit}: {parts}"


async def measure(options: argparse.Namespace) -> None:
    """Prints a row for each mode and kind of request."""
    async with ProviderDouble(chunks=CHUNKS, keep=1) as double:
        pause = Fault(chunk_delay_s=options.pause_ms / 1000)
        for chunks in (SHORT, LONG):
            reply, match = Reply(text="word " * chunks, chunks=chunks), Match(contains=f"Say {chunks} words.")
            double.script(match=match, reply=reply, fault=pause, times=None)
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
                    print(f"{title:10} {kind:16} {describe(costs, 'request', 1)}", flush=True)
                paced = describe(await send_paced(suite, options), "chunk", 0.5)
                print(f"{title:10} {f'{options.pause_ms} ms apart':16} {paced}", flush=True)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=3000, help="unary requests (default: 3000)")
    parser.add_argument("--streams", type=int, default=1000, help="streams (default: 1000)")
    parser.add_argument("--connections", type=int, default=64, help="connections (default: 64)")
    parser.add_argument("--paced", type=int, default=200, help="streams with pauses (default: 200)")
    parser.add_argument("--pause-ms", type=int, default=20, help="before each chunk of those (default: 20)")
    asyncio.run(measure(parser.parse_args()))


if __name__ == "__main__":
    main()
