"""Envoy as `quartet up` runs it, in front of a gateway of a few lines."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]
from google.protobuf.message import Message

from quartet.common.v1 import generation_pb2, message_pb2
from quartet.gateway.v1 import gateway_pb2, openai_pb2
from services.cli.settings import StackSettings
from services.cli.stack.envoy import describe_envoy
from services.cli.stack.ports import assign_ports
from services.cli.stack.process import ProcessRoom
from services.cli.stack.supervisor import Supervisor
from services.kit.binding import Binding
from services.kit.call import Call
from services.kit.serving import Server
from services.kit.testing import serve

CHAT = "/v1/chat/completions"
GENERATE = "/quartet.gateway.v1.GatewayService/Generate"
STREAM_GENERATE = "/quartet.gateway.v1.GatewayService/StreamGenerate"
FRAME = b"data: " + b"x" * 65_000 + b"\n\n"


@dataclass(slots=True)
class EchoGateway:
    """Tells what reached it; every call is remembered by its metadata."""

    seen: list[dict[str, str]] = field(default_factory=list)
    frames: int = 0
    """Of FRAME, sent so far by all streams."""
    streams: int = 0
    """Of those that are under way."""

    async def list_models(
        self, request: gateway_pb2.ListModelsRequest, call: Call
    ) -> gateway_pb2.ListModelsResponse:
        self._see(call)
        return gateway_pb2.ListModelsResponse(models=[gateway_pb2.Model(id="local/extractive")])

    async def generate(
        self, request: gateway_pb2.GenerateRequest, call: Call
    ) -> gateway_pb2.GenerateResponse:
        """With the session `silent` there is no answer."""
        self._see(call)
        if request.generation.session == "silent":
            await asyncio.Event().wait()
        message = message_pb2.Message(role=message_pb2.ROLE_ASSISTANT, parts=[message_pb2.Part(text="Hello")])
        return gateway_pb2.GenerateResponse(completion=generation_pb2.Completion(message=message))

    async def stream_generate(
        self, request: gateway_pb2.StreamGenerateRequest, call: Call
    ) -> AsyncGenerator[gateway_pb2.StreamGenerateResponse]:
        self._see(call)
        for number, word in enumerate(("Hello", " there"), start=1):
            delta = generation_pb2.Delta(text=word)
            yield gateway_pb2.StreamGenerateResponse(event_number=number, delta=delta)

    async def list_open_ai_models(
        self, request: openai_pb2.ListOpenAIModelsRequest, call: Call
    ) -> AsyncGenerator[HttpBody]:
        self._see(call)
        model = {"id": "local/extractive", "object": "model", "type": "model", "created": 0, "owned_by": "us"}
        body = {"object": "list", "data": [model], "has_more": False}
        yield HttpBody(content_type="application/json", data=json.dumps(body).encode())

    async def create_chat_completion(self, request: HttpBody, call: Call) -> AsyncGenerator[HttpBody]:
        """One small body, or for `"stream": N` so many large frames."""
        self._see(call)
        wanted = json.loads(request.data).get("stream", 0)
        if not wanted:
            yield HttpBody(content_type="application/json", data=b"{}")
        self.streams += 1
        try:
            for _ in range(wanted):
                yield HttpBody(content_type="text/event-stream", data=FRAME)
                self.frames += 1
        finally:
            self.streams -= 1

    def _see(self, call: Call) -> None:
        self.seen.append(dict(call.metadata))


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """A running Envoy and what is behind it."""

    port: int
    admin_port: int
    gateway: EchoGateway
    server: Server
    http: aiohttp.ClientSession
    scheme: str

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    async def send(self, data: bytes, *, wait_s: float = 10.0) -> bytes:
        """What a raw connection answers until it ends; raises TimeoutError while it does not."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            async with asyncio.timeout(wait_s):
                return await reader.read()
        finally:
            writer.close()

    async def stat(self, name: str) -> int:
        """One of Envoy's counters or gauges."""
        url = f"http://127.0.0.1:{self.admin_port}/stats?filter=^{name}$"
        async with self.http.get(url) as answer:
            return int((await answer.text()).rpartition(":")[2])


@asynccontextmanager
async def run_edge(
    home: Path, *, change: Callable[[Any], object] | None = None, **values: object
) -> AsyncIterator[Edge]:
    """Envoy with these settings; `change` gets the rendered bootstrap, such as to shorten its times."""
    gateway = EchoGateway()
    contracts = (
        gateway_pb2.DESCRIPTOR.services_by_name["GatewayService"],
        openai_pb2.DESCRIPTOR.services_by_name["OpenAIService"],
    )
    bindings = [Binding(contract.full_name, gateway, public=True) for contract in contracts]
    supervisor = Supervisor(ProcessRoom.within(home), say=print)
    async with serve(*bindings) as server, aiohttp.ClientSession() as http:
        given = {"home": home, "edge_port": 0, "envoy_admin_port": 0, "gateway_port": server.port, **values}
        settings = assign_ports(StackSettings.model_validate(given), ("edge", "envoy_admin"))
        program = describe_envoy(settings)
        if change is not None:
            configuration = home / "envoy" / "envoy.json"
            bootstrap = json.loads(configuration.read_text())
            change(bootstrap)
            configuration.write_text(json.dumps(bootstrap))
        try:
            await supervisor.start(program)
            yield Edge(
                port=settings.edge_port,
                admin_port=settings.envoy_admin_port,
                gateway=gateway,
                server=server,
                http=http,
                scheme="https" if settings.tls else "http",
            )
        finally:
            await supervisor.stop()


def hello() -> gateway_pb2.GenerateRequest:
    """A request that the contract's rules let through."""
    part = message_pb2.Part(text="Hi")
    message = message_pb2.Message(role=message_pb2.ROLE_USER, parts=[part])
    return gateway_pb2.GenerateRequest(generation=gateway_pb2.Generation(messages=[message]))


def frame(message: Message) -> bytes:
    """A message as gRPC and gRPC-Web send it."""
    content = message.SerializeToString()
    return b"\0" + len(content).to_bytes(4, "big") + content


def connections_of(bootstrap: Any) -> Any:
    """The HTTP connection manager of a rendered configuration."""
    (listener,) = bootstrap["static_resources"]["listeners"]
    filters = {entry["name"]: entry["typed_config"] for entry in listener["filter_chains"][0]["filters"]}
    return filters["envoy.filters.network.http_connection_manager"]
