"""How soon a provider's socket is closed once its client has gone.

Usage: python -m bench.cancel [--calls 200]

Starts the real suite twice, with each service in a process of its own and with gateway and router in one, and
the provider double behind it. A client reads a stream's first words, or waits for a whole answer, and closes
its connection; the time until the double sees its own connection close is taken on one clock, since client
and double are in one process.
"""

import argparse
import asyncio
import statistics
import time
from typing import Any

import aiohttp

from tests.doubles.provider import Fault, Match, ProviderDouble, Reply
from tests.e2e.suite import Suite, run_suite

MODEL = "gpt-6-luna"
LIMIT_MS = 500.0
"""Within this time the socket must be closed."""


def body_of(path: str, *, stream: bool) -> dict[str, Any]:
    """A request that takes long."""
    messages = [{"role": "user", "content": "Say something long, please."}]
    body: dict[str, Any] = {"model": MODEL, "stream": stream, "messages": messages}
    return body | {"max_tokens": 500} if path.endswith("messages") else body


async def leave(suite: Suite, provider: ProviderDouble, path: str, *, stream: bool) -> float:
    """Milliseconds from the client's leaving to the double's noticing."""
    gone = len(provider.disconnects)
    asked = provider.calls()
    headers = {"authorization": f"Bearer {suite.api_key}"}
    async with aiohttp.ClientSession(suite.url, headers=headers) as api:
        asking = asyncio.create_task(api.post(path, json=body_of(path, stream=stream)))
        await provider.wait_calls(asked + 1)
        if stream:
            response = await asking
            await response.content.readline()
            left_at = time.monotonic()
            response.close()
        else:
            await asyncio.sleep(0.05)
            left_at = time.monotonic()
            asking.cancel()
    await provider.wait_disconnects(gone + 1)
    return (provider.disconnects[-1].at - left_at) * 1e3


async def measure(options: argparse.Namespace) -> None:
    """Prints a row for each mode and kind of request."""
    async with ProviderDouble(keep=10 * options.calls) as provider:
        provider.script(
            match=Match(stream=True), reply=Reply(chunks=2000), fault=Fault(chunk_delay_s=0.02), times=None
        )
        provider.script(fault=Fault(delay_s=30), times=None)
        for title, colocate in (("separate", ""), ("co-located", "gateway,router")):
            async with run_suite(
                OPENAI_API_KEY="sk-bench", OPENAI_BASE_URL=provider.openai_url, QUARTET_COLOCATE=colocate
            ) as suite:
                for path in ("/v1/chat/completions", "/v1/messages"):
                    for stream in (True, False):
                        times = [
                            await leave(suite, provider, path, stream=stream) for _ in range(options.calls)
                        ]
                        cuts = statistics.quantiles(times, n=100)
                        late = sum(ms > LIMIT_MS for ms in times)
                        print(
                            f"{title:10} {path:22} {'stream' if stream else 'whole':6} "
                            f"p50 {cuts[49]:6.1f} ms  p99 {cuts[98]:6.1f} ms  max {max(times):6.1f} ms  "
                            f"{late} of {len(times)} later than {LIMIT_MS:.0f} ms"
                        )


def main() -> None:
    """Reads the arguments and measures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--calls", type=int, default=200)
    asyncio.run(measure(parser.parse_args()))


if __name__ == "__main__":
    main()
