"""What an answer out of the cache costs: CPU µs of the router's process.

Usage: python -m bench.cache [--requests 3000] [--rounds 5] [--words 60]

Starts PostgreSQL and Redis, the provider double, and the router as its own process as `quartet serve router`
does. One question is answered by the double, word by word, and kept; from then on it is asked again by 32
clients, and each answer is an exact hit. A figure is what the kernel booked for all threads of the router
(user and system time, in nanoseconds) from the first to the last request, divided by the requests; nothing is
subtracted. Beside them stands what a process costs that holds grpc.aio and nothing else, and sends the same
messages at once. Each row is the least of the rounds, since other programs share the caches and slow all
down: compare rows of one run. Exits 1 when a hit costs more than 300 µs.
"""

import argparse
import asyncio
import os
import sys
from contextlib import aclosing
from typing import Any

import grpc
import uvloop

from bench.process import CLIENTS, Task, cost_us, running, stores
from quartet.common.v1 import decision_pb2
from quartet.common.v1.message_pb2 import ROLE_USER, Message, Part
from quartet.router.v1 import router_pb2
from services.kit.call import Call
from services.kit.client import remote
from tests.doubles.provider import Fault, ProviderDouble, Reply

AIM_US = 300.0
MODEL = "gpt-6-luna"
ROUTER = router_pb2.DESCRIPTOR.services_by_name["RouterService"].full_name
HIT = decision_pb2.CACHE_OUTCOME_EXACT_HIT


def prompt(text: str) -> router_pb2.Prompt:
    """The question, at temperature 0, of a model by its name."""
    asked = router_pb2.Prompt(
        target=router_pb2.Target(model=MODEL), messages=[Message(role=ROLE_USER, parts=[Part(text=text)])]
    )
    asked.spec.temperature = 0
    return asked


def a_call() -> Call:
    """A call of a tenant."""
    return Call.root(timeout_s=60, tenant="default")


async def serve_bare() -> None:
    """grpc.aio as it comes, on ROUTER_PORT and the services' loop: it sends the messages in MESSAGES."""
    messages = [bytes.fromhex(message) for message in os.environ["MESSAGES"].split(",")]

    async def answer(*_: object) -> bytes:
        return messages[0]

    async def stream(_: object, context: Any) -> None:
        for message in messages[1:]:
            await context.write(message)

    server = grpc.aio.server()
    handlers: dict[str, Any] = {
        "Generate": grpc.unary_unary_rpc_method_handler(answer),
        "StreamGenerate": grpc.unary_stream_rpc_method_handler(stream),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(ROUTER, handlers),))
    server.add_insecure_port(f"127.0.0.1:{os.environ['ROUTER_PORT']}")
    await server.start()
    await server.wait_for_termination()


async def ask_unary(client: Any) -> router_pb2.GenerateResponse:
    """The whole answer."""
    request = router_pb2.GenerateRequest(prompt=prompt("unary"))
    response: router_pb2.GenerateResponse = await client.generate(request, a_call())
    return response


async def ask_stream(client: Any) -> list[router_pb2.StreamGenerateResponse]:
    """All messages of the stream."""
    request = router_pb2.StreamGenerateRequest(prompt=prompt("stream"))
    async with aclosing(client.stream_generate(request, a_call())) as events:
        return [event async for event in events]


async def measure(options: argparse.Namespace) -> bool:
    """Prints a row for each kind; True when the aim is reached."""
    async with ProviderDouble(keep=1) as double, stores() as (database_url, redis_url):
        text = " ".join(["word"] * options.words)
        double.script(reply=Reply(text=text), fault=Fault(chunk_delay_s=0.002), times=None)
        variables = {
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "OPENAI_BASE_URL": double.openai_url,
            "OPENAI_API_KEY": "bench",
            "ROUTER_CACHE_TIMEOUT_S": "5",  # on a busy machine Redis itself may wait for its turn
        }
        async with running("-m", "services.router", port_variable="ROUTER_PORT", **variables) as (
            pid,
            address,
        ):
            client = remote(ROUTER, address)
            for _ in range(2):
                unary, stream = await ask_unary(client), await ask_stream(client)
                await asyncio.sleep(0.5)
            if (unary.decision.cache, stream[0].decision.cache) != (HIT, HIT):
                raise RuntimeError("the cache gives nothing")
            messages = ",".join(message.SerializeToString().hex() for message in (unary, *stream))
            asked = double.calls()
            async with running(
                "-m", "bench.cache", "--bare", port_variable="ROUTER_PORT", MESSAGES=messages
            ) as (
                bare_pid,
                bare_address,
            ):
                bare = remote(ROUTER, bare_address)
                each = f"{len(stream)} messages"
                rows: list[tuple[str, int, Task]] = [
                    ("grpc.aio alone, unary", bare_pid, lambda: ask_unary(bare)),
                    (f"grpc.aio alone, stream of {each}", bare_pid, lambda: ask_stream(bare)),
                    ("hit, unary", pid, lambda: ask_unary(client)),
                    (f"hit, stream of {each}", pid, lambda: ask_stream(client)),
                ]
                costs: list[float] = []
                for name, measured, task in rows:
                    await cost_us(measured, task, max(CLIENTS, options.requests // 4))
                    taken = [await cost_us(measured, task, options.requests) for _ in range(options.rounds)]
                    costs.append(min(taken))
                    print(f"{name:40}{min(taken):8.0f} µs", flush=True)
                await bare.close()
            await client.close()
            if double.calls() != asked:
                raise RuntimeError("not all were hits")
    return max(costs[2:]) <= AIM_US


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=3000, help="requests a row (default: 3000)")
    parser.add_argument(
        "--rounds", type=int, default=5, help="rounds, of which the least counts (default: 5)"
    )
    parser.add_argument("--words", type=int, default=60, help="of the answer, each a chunk (default: 60)")
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve_bare())
    elif not asyncio.run(measure(options)):
        sys.exit("The aim is missed.")


if __name__ == "__main__":
    main()
