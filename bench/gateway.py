"""What the gateway's own work costs: CPU µs of its process for a refusal, an answer and a streamed event.

Usage: python -m bench.gateway [--requests 3000] [--rounds 3] [--only TEXT] [--set NAME=VALUE …]

Starts PostgreSQL and Redis, and the gateway as its own process as `quartet serve gateway` does, with a router
behind it that answers at once. The clients and that router live in the benchmark's process, which is not
measured. A figure is what the kernel booked for all threads of the gateway (user and system time, in
nanoseconds) from the first to the last of many requests, by 32 clients, divided by the requests; nothing is
subtracted. Beside them stands what a process costs that holds grpc.aio and nothing else, and answers or
refuses every call at once. Each row is the least of the rounds, since other programs share the caches and
slow all down: compare rows of one run. `--set` gives the gateway settings, to compare variants.
"""

import argparse
import asyncio
import json
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import psycopg
from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]
from grpc_health.v1 import health_pb2  # type: ignore[import-untyped]

from bench.process import CLIENTS, Task, cost_us, running, stores
from quartet.common.v1 import decision_pb2, generation_pb2, message_pb2
from quartet.gateway.v1 import anthropic_pb2, gateway_pb2, openai_pb2
from quartet.router.v1 import router_pb2
from services.gateway.adapters.postgres.keys import ensure_dev_key
from services.gateway.domain.keys import key_id_of, make_text
from services.kit.binding import Binding
from services.kit.call import Call
from services.kit.client import remote
from services.kit.errors import InvalidArgument, QuartetError
from services.kit.testing import serve

MODEL = "gpt-6-luna"
WINDOW = 1000
DELTAS = 200
LIMIT = 100
QUOTAS = (
    "requests_per_minute",
    "tokens_per_minute",
    "tokens_per_day",
    "micro_usd_per_day",
    "micro_usd_per_month",
    "concurrent_calls",
)
QUESTION = "Name a prime number, please."
LONG = "The tenant gives notice of two months, in writing, before the end of the term. " * 40
"""3,200 characters, some 700 tokens: over the key's limit, below the model's window."""
TOO_LONG = LONG * 4
"""Over the model's window."""
ROUTER = router_pb2.DESCRIPTOR.services_by_name["RouterService"].full_name
NATIVE = gateway_pb2.DESCRIPTOR.services_by_name["GatewayService"].full_name
OPENAI = openai_pb2.DESCRIPTOR.services_by_name["OpenAIService"].full_name
ANTHROPIC = anthropic_pb2.DESCRIPTOR.services_by_name["AnthropicService"].full_name
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name


class Router:
    """Answers at once, whatever it is asked."""

    def __init__(self) -> None:
        self.decision = decision_pb2.Decision(
            route="simple_faq", rule="greeting", handler=decision_pb2.Handler(model=MODEL), model=MODEL
        )
        self.completion = generation_pb2.Completion(
            finish_reason=generation_pb2.FINISH_REASON_STOP,
            usage=generation_pb2.Usage(input_tokens=11, output_tokens=4, cost_micro_usd=42, model_calls=1),
            model=MODEL,
        )
        self.answer = generation_pb2.Completion()
        self.answer.CopyFrom(self.completion)
        self.answer.message.role = message_pb2.ROLE_ASSISTANT
        self.answer.message.parts.add(text="Seven is a prime number.")

    async def generate(self, *_: object) -> router_pb2.GenerateResponse:
        return router_pb2.GenerateResponse(decision=self.decision, completion=self.answer)

    async def stream_generate(self, *_: object) -> AsyncIterator[router_pb2.StreamGenerateResponse]:
        yield router_pb2.StreamGenerateResponse(decision=self.decision)
        response = router_pb2.StreamGenerateResponse()
        response.delta.text = "some words "
        for _number in range(DELTAS):
            yield response
        yield router_pb2.StreamGenerateResponse(end=self.completion)

    async def list_models(self, *_: object) -> router_pb2.ListModelsResponse:
        model = router_pb2.Model(id=MODEL, provider="openai", context_window=WINDOW, available=True)
        return router_pb2.ListModelsResponse(models=[model])


@asynccontextmanager
async def keys(database_url: str) -> AsyncIterator[dict[str, str]]:
    """Keys limited in nothing, in LIMIT tokens a request, in all six quotas, and to no request at all."""
    with tempfile.TemporaryDirectory() as folder:
        made = {
            name: await ensure_dev_key(database_url, Path(folder) / f"{name}.key")
            for name in ("free", "limited", "counted", "barred")
        }
        settings = ", ".join(f"{name} = 1000000000" for name in QUOTAS)
        async with await psycopg.AsyncConnection.connect(database_url) as connection:
            await connection.execute(
                f"update gateway.api_keys set {settings} where id = %s",  # noqa: S608
                (key_id_of(made["counted"]),),
            )
            await connection.execute(
                "update gateway.api_keys set requests_per_minute = 0 where id = %s",
                (key_id_of(made["barred"]),),
            )
            await connection.execute(
                "update gateway.api_keys set input_tokens_per_request = %s where id = %s",
                (LIMIT, key_id_of(made["limited"])),
            )
        yield made


async def serve_bare() -> None:
    """grpc.aio as it comes, on GATEWAY_PORT: `Generate` is refused, everything else answered with nothing."""
    details = InvalidArgument("too long", reason="TOKEN_LIMIT_EXCEEDED", metadata={"limit": str(LIMIT)})
    trailers = (
        ("grpc-status-details-bin", details.to_status().SerializeToString()),
        ("x-request-id", "a" * 32),
    )

    async def refuse(_: bytes, context: Any) -> None:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, details.message, trailers)

    async def answer(*_: object) -> bytes:
        return b""

    server = grpc.aio.server()
    for service, method, behaviour in ((NATIVE, "Generate", refuse), (HEALTH, "Check", answer)):
        handler: Any = grpc.unary_unary_rpc_method_handler(behaviour)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    server.add_insecure_port(f"127.0.0.1:{os.environ['GATEWAY_PORT']}")
    await server.start()
    await server.wait_for_termination()


def a_call(key: str) -> Call:
    """A call with that key."""
    return Call.root(timeout_s=60, metadata={"authorization": f"Bearer {key}"})


def generation(text: str) -> gateway_pb2.Generation:
    """A question of the model, native."""
    message = message_pb2.Message(role=message_pb2.ROLE_USER, parts=[message_pb2.Part(text=text)])
    return gateway_pb2.Generation(target=gateway_pb2.Target(name=MODEL), messages=[message])


def body(text: str, *, stream: bool = False) -> HttpBody:
    """The same as both dialects read it."""
    messages = [{"role": "user", "content": text}]
    members = {"model": MODEL, "messages": messages, "max_tokens": 100, "stream": stream}
    return HttpBody(content_type="application/json", data=json.dumps(members).encode())


async def read(stream: Any) -> int:
    """How many messages a stream had."""
    async with aclosing(stream) as answers:
        return sum([1 async for _ in answers])


async def measure(options: argparse.Namespace) -> None:
    """Prints a row for each kind of request."""
    chosen = dict(pair.split("=", 1) for pair in options.set)
    async with (
        stores() as (database_url, redis_url),
        keys(database_url) as secrets,
        serve(Binding(ROUTER, Router())) as router,
        running("-m", "bench.gateway", "--bare") as (bare_pid, bare_address),
        running(
            "-m",
            "services.gateway",
            DATABASE_URL=database_url,
            REDIS_URL=redis_url,
            GATEWAY_ROUTER_ADDRESS=router.address,
            GATEWAY_ACCOUNT_TIMEOUT_S="5",  # on a busy machine Redis itself may wait for its turn
            **chosen,
        ) as (pid, address),
    ):
        clients = {name: remote(name, address) for name in (NATIVE, OPENAI, ANTHROPIC, HEALTH)}
        bare = {name: remote(name, bare_address) for name in (NATIVE, HEALTH)}
        rows = [(bare_pid, *row) for row in bare_tasks(bare, secrets["limited"])]
        rows += [(pid, *row) for row in tasks(clients, secrets)]
        try:
            for pid, name, per, task in rows:
                if options.only not in name:
                    continue
                times = max(CLIENTS, options.requests // per)
                await cost_us(pid, task, times // 4)
                costs = [await cost_us(pid, task, times) for _ in range(options.rounds)]
                print(f"{name:<58}{min(costs) / per:>8.0f} µs", flush=True)
        finally:
            for client in (*clients.values(), *bare.values()):
                await client.close()


def refusal(client: Any, text: str, key: str) -> Task:
    """Asks, and wants to be refused."""
    request = gateway_pb2.GenerateRequest(generation=generation(text))

    async def ask() -> None:
        try:
            await client.generate(request, a_call(key))
        except QuartetError:
            return
        raise RuntimeError("it was not refused")

    return ask


def bare_tasks(clients: dict[str, Any], key: str) -> list[tuple[str, int, Task]]:
    """The same, of what is there without a gateway."""
    check = health_pb2.HealthCheckRequest()
    return [
        ("grpc.aio alone: answered", 1, lambda: clients[HEALTH].check(check, Call.root(timeout_s=60))),
        ("grpc.aio alone: refused", 1, refusal(clients[NATIVE], LONG, key)),
    ]


def tasks(clients: dict[str, Any], secrets: dict[str, str]) -> list[tuple[str, int, Task]]:
    """What is measured: its name, by how many the cost is divided, and how it is done once."""
    native, openai, anthropic = clients[NATIVE], clients[OPENAI], clients[ANTHROPIC]
    free, limited, counted = secrets["free"], secrets["limited"], secrets["counted"]

    def unary(text: str, key: str) -> Task:
        request = gateway_pb2.GenerateRequest(generation=generation(text))
        return lambda: native.generate(request, a_call(key))

    def posted(client: Any, method: str, request: HttpBody, key: str) -> Task:
        return lambda: read(getattr(client, method)(request, a_call(key)))

    def streamed(key: str) -> Task:
        request = gateway_pb2.StreamGenerateRequest(generation=generation(QUESTION))
        return lambda: read(native.stream_generate(request, a_call(key)))

    unknown, wrong = make_text("qk_0123456789ab"), make_text(key_id_of(free))
    return [
        ("refused: over the key's tokens, native", 1, refusal(native, LONG, limited)),
        ("refused: over the model's window, native", 1, refusal(native, TOO_LONG, free)),
        (
            "refused: over the key's tokens, OpenAI",
            1,
            posted(openai, "create_chat_completion", body(LONG), limited),
        ),
        (
            "refused: over the key's tokens, Anthropic",
            1,
            posted(anthropic, "create_message", body(LONG), limited),
        ),
        ("refused: a known key's wrong secret, native", 1, refusal(native, QUESTION, wrong)),
        ("refused: an unknown key, looked up, native", 1, refusal(native, QUESTION, unknown)),
        ("refused: over a quota, native", 1, refusal(native, QUESTION, secrets["barred"])),
        ("answered: unary, native", 1, unary(QUESTION, free)),
        ("answered: unary, native, with six quotas", 1, unary(QUESTION, counted)),
        ("answered: unary, 700 tokens counted, native", 1, unary(LONG, free)),
        ("answered: unary, OpenAI", 1, posted(openai, "create_chat_completion", body(QUESTION), free)),
        ("answered: unary, Anthropic", 1, posted(anthropic, "create_message", body(QUESTION), free)),
        (f"streamed: an event of {DELTAS}, native", DELTAS, streamed(free)),
        (f"streamed: an event of {DELTAS}, native, with six quotas", DELTAS, streamed(counted)),
        (
            f"streamed: an event of {DELTAS}, OpenAI",
            DELTAS,
            posted(openai, "create_chat_completion", body(QUESTION, stream=True), free),
        ),
        (
            f"streamed: an event of {DELTAS}, Anthropic",
            DELTAS,
            posted(anthropic, "create_message", body(QUESTION, stream=True), free),
        ),
    ]


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=3000, help="requests a row (default: 3000)")
    parser.add_argument(
        "--rounds", type=int, default=3, help="rounds, of which the least counts (default: 3)"
    )
    parser.add_argument("--only", default="", help="only rows that contain this text")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a gateway's setting"
    )
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    asyncio.run(serve_bare() if options.bare else measure(options))


if __name__ == "__main__":
    main()
