"""What kit costs: CPU time of a call and of a streamed message, beside bare grpc.aio and in process.

Usage: python bench/kit.py [--calls 3000] [--messages 20000]

Client and server share one process and its CPU clock, so each figure is that of both ends together.
"""

import argparse
import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import grpc

from quartet.common.v1 import message_pb2
from quartet.router.v1 import router_pb2 as pb
from services.kit import telemetry
from services.kit.binding import Binding
from services.kit.call import Call
from services.kit.client import local, remote
from services.kit.settings import KitSettings
from services.kit.testing import receive_otlp, serve

ROUTER = "quartet.router.v1.RouterService"
CONCURRENCY = 32

Unary = Callable[[], Awaitable[Any]]
Stream = Callable[[], Awaitable[None]]


class Router:
    """Answers at once."""

    def __init__(self, messages: int) -> None:
        self._messages = messages

    async def generate(self, request: pb.GenerateRequest, call: Call) -> pb.GenerateResponse:
        del request, call
        return pb.GenerateResponse()

    async def stream_generate(
        self, request: pb.StreamGenerateRequest, call: Call
    ) -> AsyncIterator[pb.StreamGenerateResponse]:
        del request, call
        response = pb.StreamGenerateResponse()
        response.delta.text = "some words "
        for _ in range(self._messages):
            yield response


def a_prompt() -> pb.Prompt:
    """One short question."""
    prompt = pb.Prompt()
    prompt.messages.add(role=message_pb2.ROLE_USER).parts.add(text="What is the notice period?")
    return prompt


REQUEST = pb.GenerateRequest(prompt=a_prompt())
STREAM_REQUEST = pb.StreamGenerateRequest(prompt=a_prompt())


@asynccontextmanager
async def bare(messages: int) -> AsyncIterator[tuple[Unary, Stream]]:
    """grpc.aio as it comes: no validation, no spans, no errors mapped."""
    response = pb.StreamGenerateResponse()
    response.delta.text = "some words "

    async def generate(request: Any, context: Any) -> pb.GenerateResponse:
        del request, context
        return pb.GenerateResponse()

    async def stream_generate(request: Any, context: Any) -> None:
        del request
        for _ in range(messages):
            await context.write(response)

    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    methods: dict[str, Any] = {
        "Generate": grpc.unary_unary_rpc_method_handler(
            generate, pb.GenerateRequest.FromString, pb.GenerateResponse.SerializeToString
        ),
        "StreamGenerate": grpc.unary_stream_rpc_method_handler(
            stream_generate, pb.StreamGenerateRequest.FromString, pb.StreamGenerateResponse.SerializeToString
        ),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(ROUTER, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        start: Any = channel.unary_unary(
            f"/{ROUTER}/Generate", pb.GenerateRequest.SerializeToString, pb.GenerateResponse.FromString
        )
        start_stream: Any = channel.unary_stream(
            f"/{ROUTER}/StreamGenerate",
            pb.StreamGenerateRequest.SerializeToString,
            pb.StreamGenerateResponse.FromString,
        )

        async def read() -> None:
            async for _ in start_stream(STREAM_REQUEST, timeout=60):
                pass

        yield lambda: start(REQUEST, timeout=60), read
    await server.stop(0)


def with_kit(client: Any) -> tuple[Unary, Stream]:
    """A unary call and the reading of a stream, by a client of kit."""

    async def read() -> None:
        async with aclosing(client.stream_generate(STREAM_REQUEST, Call.root(timeout_s=60))) as events:
            async for _ in events:
                pass

    return lambda: client.generate(REQUEST, Call.root(timeout_s=60)), read


async def cpu_us(task: Callable[[], Awaitable[Any]], times: int, concurrency: int) -> float:
    """CPU time of this process per run of the task, in microseconds."""
    remaining = iter(range(times))

    async def work() -> None:
        for _ in remaining:
            await task()

    await task()
    started_s = time.process_time()
    await asyncio.gather(*(work() for _ in range(concurrency)))
    return (time.process_time() - started_s) / times * 1e6


async def report(name: str, pair: tuple[Unary, Stream], calls: int, messages: int) -> None:
    """Prints one line of the table: the better of three rounds, since other programs share the caches."""
    unary, stream = pair
    per_call = min([await cpu_us(unary, calls, CONCURRENCY) for _ in range(3)])
    per_message = min([await cpu_us(stream, 2, 1) for _ in range(3)]) / messages
    print(f"{name:<34}{per_call:>12.0f}{per_message:>16.1f}")


async def measure(calls: int, messages: int) -> None:
    """Prints the table."""
    print(f"{'':<34}{'µs per call':>12}{'µs per message':>16}")
    async with bare(messages) as pair:
        await report("bare grpc.aio", pair, calls, messages)
    router = Router(messages)
    async with receive_otlp() as receiver:
        for name, endpoint, ratio in (
            ("no telemetry", "", 0.0),
            ("traces not sampled", receiver.endpoint, 0.0),
            ("every trace sampled", receiver.endpoint, 1.0),
        ):
            settings = KitSettings(otlp_endpoint=endpoint, trace_ratio=ratio, drain_timeout_s=1)
            sending = telemetry.configure("bench", settings)
            async with serve(Binding(ROUTER, router)) as server:
                client = remote(ROUTER, server.address)
                await report(f"kit over gRPC, {name}", with_kit(client), calls, messages)
                await client.close()
            await report(f"kit in process, {name}", with_kit(local(ROUTER, router)), calls, messages)
            await asyncio.to_thread(sending.shutdown)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="What kit costs, in CPU time.")
    parser.add_argument("--calls", type=int, default=3000)
    parser.add_argument("--messages", type=int, default=20000)
    arguments = parser.parse_args()
    asyncio.run(measure(arguments.calls, arguments.messages))


if __name__ == "__main__":
    main()
