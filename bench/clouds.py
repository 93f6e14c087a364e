"""What a call by a cloud's SDK costs the router, beside one by its own client: `python -m bench.clouds`.

Prints CPU microseconds of this process for a whole answer and for a stream of 20 pieces, the median of
rounds; the provider is the double in a process of its own.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack

from quartet.common.v1 import message_pb2 as message
from quartet.common.v1.generation_pb2 import GenerationSpec
from services.kit.call import Call
from services.router.adapters.anthropic.provider import AnthropicProvider
from services.router.adapters.config.servers import AzureServer, BedrockServer, VertexServer
from services.router.adapters.http.client import HttpClient
from services.router.adapters.http.dialing import Dialer, Egress
from services.router.adapters.openai.provider import OpenAIProvider
from services.router.adapters.provider import WireProvider
from services.router.adapters.transport import COMMON_HEADERS, Client, Patience, Transport
from services.router.domain.adaptation import ModelRequest
from services.router.domain.catalogue import Dialect, Model
from services.router.domain.ledger import Purpose
from services.router.domain.prices import Prices
from services.router.wiring_clouds import open_cloud
from tests.doubles.provider import clouds as doors

ROUNDS = 7
PIECES = 20
EGRESS = Egress()
Ways = Iterator[tuple[str, Transport, type[WireProvider]]]


def request_of(provider: WireProvider) -> ModelRequest:
    """A short question to a model that takes everything."""
    dialect = Dialect.OPENAI if isinstance(provider, OpenAIProvider) else Dialect.ANTHROPIC
    model = Model(
        id="model",
        provider=provider.name,
        dialect=dialect,
        upstream="model",
        prices=Prices({}),
        context_window=100_000,
        max_output_tokens=8000,
        capabilities=frozenset(),
    )
    question = message.Message(role=message.ROLE_USER, parts=[message.Part(text="What is there to say?")])
    return ModelRequest(
        model=model,
        messages=[question],
        spec=GenerationSpec(max_output_tokens=1000),
        adapted=(),
        keeps_thinking=True,
        purpose=Purpose(),
    )


def own(url: str) -> Ways:
    """The vendors' formats by the router's own client."""
    for name, make, path in (("openai", OpenAIProvider, "/v1"), ("anthropic", AnthropicProvider, "")):
        dialer = Dialer(url, connect_timeout_s=10, egress=EGRESS)
        client: Client = HttpClient(url + path, dialer, {**COMMON_HEADERS, "authorization": "Bearer key"})
        yield name, Transport(client, Patience(), provider=name), make


def clouds(url: str) -> Ways:
    """The same formats by the SDKs of the clouds."""
    with urllib.request.urlopen(f"{url}/_double/service-account") as answer:  # noqa: S310 - loopback
        account = answer.read().decode()
    os.environ |= {
        "AZURE_OPENAI_API_KEY": doors.AZURE_KEY,
        "AWS_ACCESS_KEY_ID": doors.AWS_ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": doors.AWS_SECRET_KEY,
        "GOOGLE_CREDENTIALS": account,
    }
    azure = AzureServer(name="azure", kind="azure", base_url=url, api_version=doors.AZURE_VERSION)
    bedrock = BedrockServer(name="bedrock", kind="bedrock", base_url=url, region=doors.AWS_REGION)
    vertex = VertexServer(
        name="vertex",
        kind="vertex",
        base_url=f"{url}/v1",
        region=doors.GOOGLE_REGION,
        project=doors.GOOGLE_PROJECT,
    )
    for server in (azure, bedrock, vertex):
        client = open_cloud(server, EGRESS, 10.0)
        transport = Transport(client, Patience(), provider=server.name, framing=client.framing)
        yield server.name, transport, OpenAIProvider if server is azure else AnthropicProvider


async def cost_us(call: Callable[[], Awaitable[None]], times: int) -> float:
    """CPU time of one call, the median of rounds after one that warms up."""
    rounds = []
    for _ in range(1 + ROUNDS):
        begun = time.process_time()
        for _ in range(times):
            await call()
        rounds.append((time.process_time() - begun) / times * 1e6)
    return statistics.median(rounds[1:])


async def measure(url: str, times: int) -> None:
    """Prints a row for each way."""
    async with AsyncExitStack() as stack:
        for name, transport, make in (*own(url), *clouds(url)):
            stack.push_async_callback(transport.close)
            provider: WireProvider = make(transport)
            request = request_of(provider)

            async def whole(provider: WireProvider = provider, request: ModelRequest = request) -> None:
                await provider.generate(request, Call.root(timeout_s=20))

            async def streamed(provider: WireProvider = provider, request: ModelRequest = request) -> None:
                async for _ in provider.stream(request, Call.root(timeout_s=20)):
                    pass

            figures = await cost_us(whole, times), await cost_us(streamed, times)
            sys.stdout.write(f"{name:10} whole {figures[0]:6.0f} us   stream {figures[1]:6.0f} us\n")


async def main() -> None:
    """Starts the double, measures, and ends it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=100, help="of a round")
    options = parser.parse_args()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.doubles.provider", "--chunks", str(PIECES), "--keep", "0"),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None  # noqa: S101 - as it was asked for
        await measure(json.loads(await process.stdout.readline())["url"], options.calls)
    finally:
        process.terminate()
        await process.wait()


if __name__ == "__main__":
    asyncio.run(main())
