"""Every kind of request that clients make of the suite, those that leave or fail among them."""

import asyncio
import base64
import random
import re
from collections import deque
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from quartet.common.v1.message_pb2 import ROLE_USER, Message, Part
from quartet.gateway.v1 import gateway_pb2
from services.kit.call import Call
from services.kit.client import remote
from services.kit.errors import QuartetError
from tests.doubles.provider import Fault, Match, ProviderDouble, Reply
from tests.e2e.suite import Suite
from tests.e2e.vitals import limited_key, make_key, reason_of

MODEL, CLAUDE, FRAIL = "gpt-6-luna", "claude-haiku-5-5", "gpt-6-astra"
"""The last is the one that faults are scripted for: its breaker opens and heals."""
GATEWAY = gateway_pb2.DESCRIPTOR.services_by_name["GatewayService"].full_name
WORDS = ("river", "lamp", "seven", "cloud", "paper", "tide", "north", "copper", "garden", "slow", "engine")
ENDS = (b"data: [DONE]\n\n", b"event: message_stop", b'"response.completed"', b'"end":')
"""How streams end that end well, in the four dialects."""
REASON = re.compile(rb'"reason":"([A-Z_]+)"')
"""In an event that ends a stream with an error."""
REUSED_KEYS = 200
"""Of the newest idempotency keys, any is used again."""
CACHED_PROMPTS = 300
SOURCES = 12
"""Documents that are sent again and again, with other content."""
FAULTS: Mapping[str, Fault] = {
    "status-500": Fault(status=500),
    "status-429": Fault(status=429, retry_after_s=0.2),
    "drop": Fault(drop=True),
    "cut": Fault(cut_after_chunks=3),
    "malformed": Fault(malformed_after_chunks=2),
    "vendor-error": Fault(error_after_chunks=2),
    "html": Fault(content_type="text/html"),
    "hang": Fault(hang_after_chunks=1),
    "drip": Fault(drip_bytes=64, drip_interval_s=0.005),
}
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """The load's keys: one with limits out of reach, one with few requests, one with few tokens."""

    roomy: str
    poor: str
    short: str


class Client:
    """Sends single requests of all kinds; made by `connect`."""

    def __init__(
        self, api: aiohttp.ClientSession, native: Any, secrets: Secrets, chance: random.Random
    ) -> None:
        self.api = api
        self.native = native
        self.secrets = secrets
        self.chance = chance
        self._serial = 0
        self._keys: deque[tuple[str, dict[str, Any]]] = deque(maxlen=REUSED_KEYS)

    def words(self, least: int = 4, most: int = 60) -> str:
        """A prompt that was not asked before."""
        self._serial += 1
        count = self.chance.randint(least, most)
        return f"Say number {self._serial}: {' '.join(self.chance.choices(WORDS, k=count))}, please."

    async def post(self, path: str, body: Mapping[str, Any], *, secret: str = "", **headers: str) -> str:
        """The outcome of a request: its status, and the reason of a refusal or how a stream ended."""
        headers["authorization"] = f"Bearer {secret or self.secrets.roomy}"
        async with self.api.post(path, json=body, headers=headers) as response:
            answer = await response.read()
        if response.status != 200:
            return f"{response.status} {reason_of(answer)}"
        if response.content_type != "text/event-stream":
            return "200"
        if any(end in answer[-4096:] for end in ENDS) and b'"error":{' not in answer[-4096:]:
            return "200"
        found = REASON.search(answer[-4096:])
        return f"200 error {found[1].decode()}" if found else "200 broken"

    async def get(self, path: str) -> str:
        headers = {"authorization": f"Bearer {self.secrets.roomy}"}
        async with self.api.get(path, headers=headers) as response:
            answer = await response.read()
        return "200" if response.status == 200 else f"{response.status} {reason_of(answer)}"

    # What is asked of models, in four dialects.

    def chat(self, model: str = "", *, stream: bool = False, text: str = "", **more: Any) -> dict[str, Any]:
        messages = [{"role": "user", "content": text or self.words()}]
        return {"model": model or self.any_model(), "stream": stream, "messages": messages, **more}

    def any_model(self) -> str:
        return self.chance.choice((MODEL, CLAUDE, "auto"))

    async def ask_chat(self, *, stream: bool = False) -> str:
        return await self.post("/v1/chat/completions", self.chat(stream=stream))

    async def ask_anthropic(self, *, stream: bool = False) -> str:
        return await self.post("/v1/messages", self.chat(stream=stream, max_tokens=400))

    async def ask_responses(self, *, stream: bool = False) -> str:
        body = {"model": self.any_model(), "input": self.words(), "stream": stream}
        return await self.post("/v1/responses", body)

    async def ask_native(self, *, stream: bool = False) -> str:
        """As gRPC clients do, through the edge."""
        generation = gateway_pb2.Generation(
            target=gateway_pb2.Target(name=self.any_model()),
            messages=[Message(role=ROLE_USER, parts=[Part(text=self.words())])],
        )
        call = Call.root(timeout_s=TIMEOUT_S, metadata={"authorization": f"Bearer {self.secrets.roomy}"})
        try:
            if not stream:
                await self.native.generate(gateway_pb2.GenerateRequest(generation=generation), call)
                return "200"
            request = gateway_pb2.StreamGenerateRequest(generation=generation)
            async with aclosing(self.native.stream_generate(request, call)) as events:
                kinds = [event.WhichOneof("event") async for event in events]
            return "200" if kinds[-1] == "end" else "200 broken"
        except QuartetError as error:
            return f"{error.status} {error.reason}"

    async def ask_tools(self) -> str:
        """Two turns: the model calls, and hears what came of it."""
        tool = {"type": "function", "function": {"name": "weather", "parameters": WEATHER}}
        text = f"{self.words()} Use the tool."
        body = self.chat(self.chance.choice((MODEL, CLAUDE)), text=text, tools=[tool])
        headers = {"authorization": f"Bearer {self.secrets.roomy}"}
        async with self.api.post("/v1/chat/completions", json=body, headers=headers) as response:
            answer = await response.read()
        if response.status != 200:
            return f"{response.status} {reason_of(answer)}"
        message = orjson.loads(answer)["choices"][0]["message"]
        if not message.get("tool_calls"):
            return "200 without a call"
        results = [
            {"role": "tool", "tool_call_id": call["id"], "content": "rain"} for call in message["tool_calls"]
        ]
        body["messages"] += [message, *results]
        return await self.post("/v1/chat/completions", body)

    async def embed(self) -> str:
        model = self.chance.choice(("text-embedding-3-small", "local/minilm"))
        texts = [self.words(most=20) for _ in range(self.chance.randint(1, 4))]
        return await self.post("/v1/embeddings", {"model": model, "input": texts})

    # What is answered without a model.

    async def ask_again(self) -> str:
        """One of a few hundred questions at temperature 0: soon all of them are in the cache."""
        number, stream = self.chance.randrange(CACHED_PROMPTS), self.chance.random() < 0.5
        text = f"Tell again what stands on page {number}."
        return await self.post(
            "/v1/chat/completions", self.chat(MODEL, stream=stream, text=text, temperature=0)
        )

    async def ask_at_once(self) -> str:
        """The same question four times at once: one call of the model serves them."""
        body = self.chat(MODEL, stream=self.chance.random() < 0.5, temperature=0)
        outcomes = await asyncio.gather(*(self.post("/v1/chat/completions", body) for _ in range(4)))
        return max(outcomes)

    async def ask_idempotent(self) -> str:
        if self._keys and self.chance.random() < 0.5:
            key, body = self.chance.choice(self._keys)
        else:
            key = f"load-{self.chance.getrandbits(64):x}"
            body = self.chat(MODEL, stream=self.chance.random() < 0.5)
            self._keys.append((key, body))
        return await self.post("/v1/chat/completions", body, **{"idempotency-key": key})

    async def resume(self) -> str:
        """Leaves a resumable stream after its third event, and takes it up again."""
        turn = {"role": "ROLE_USER", "parts": [{"text": self.words()}]}
        generation: dict[str, Any] = {"target": {"name": MODEL}, "messages": [turn]}
        headers = {"authorization": f"Bearer {self.secrets.roomy}"}
        body = {"generation": generation, "resumable": True}
        async with self.api.post("/api/v1/generate:stream", json=body, headers=headers) as response:
            if response.status != 200:
                return f"{response.status} {reason_of(await response.read())}"
            generation["idempotency_key"] = response.headers["x-quartet-resume-key"]
            events = 0
            while events < 3 and (line := await response.content.readline()):
                events += line.startswith(b"data: ")
            response.close()
        return await self.post("/api/v1/generate:stream", {"generation": generation, "from_event_number": 4})

    # What goes wrong.

    async def leave(self) -> str:
        """Sends a request of any kind and is gone, at any moment."""
        ask = self.chance.choice((self.ask_chat, self.ask_anthropic, self.ask_responses, self.ask_native))
        try:
            async with asyncio.timeout(self.chance.uniform(0.001, 0.4)):
                return await ask(stream=self.chance.random() < 0.7)
        except TimeoutError:
            return "left"

    async def meet_fault(self) -> str:
        name = self.chance.choice(tuple(FAULTS))
        text = f"{self.words()} (fault {name})"
        body = self.chat(FRAIL, stream=self.chance.random() < 0.6, text=text)
        return await self.post("/v1/chat/completions", body, **{"x-quartet-timeout-ms": "1500"})

    async def ask_frail(self) -> str:
        """The model of the faults, which may be cooling."""
        return await self.post("/v1/chat/completions", self.chat(FRAIL))

    async def fall_back(self) -> str:
        """A question that the first model of its route fails to answer."""
        text = f"What is the meaning of page {self.chance.randrange(10**6)}? (fault status-500 of the first)"
        return await self.post(
            "/v1/chat/completions", self.chat("auto", stream=self.chance.random() < 0.5, text=text)
        )

    async def be_refused(self) -> str:
        path, body = "/v1/chat/completions", self.chat(MODEL)
        match self.chance.randrange(6):
            case 0:
                return await self.post(path, body, secret="qk_0123456789ab_wrong")
            case 1:
                return await self.post(path, body, secret=self.secrets.short)
            case 2:
                return await self.post(path, body | {"model": "no-such-model"})
            case 3:
                return await self.post("/v1/messages", body)  # without max_tokens
            case 4:
                return await self.post("/api/v1/generate", {"generation": {}})
            case _:
                return await self.post(path, body, secret=self.secrets.poor)

    # What other services do.

    async def ask_documents(self) -> str:
        text = f"What does reason number {self.chance.randrange(10**6)} of the errors mean?"
        body = self.chat("rag/default", stream=self.chance.random() < 0.5, text=text)
        return await self.post("/v1/chat/completions", body)

    async def ask_agent(self) -> str:
        body = self.chat("agent", stream=self.chance.random() < 0.5, text=f"Find out: {self.words(most=10)}")
        return await self.post("/v1/chat/completions", body)

    async def run(self) -> str:
        """Starts a run, and watches it to its end or cancels it."""
        turn = {"role": "ROLE_USER", "parts": [{"text": f"Find out: {self.words(most=10)}"}]}
        headers = {"authorization": f"Bearer {self.secrets.roomy}"}
        body = {"task": {"messages": [turn]}}
        async with self.api.post("/api/v1/runs", json=body, headers=headers) as response:
            answer = await response.read()
        if response.status != 200:
            return f"{response.status} {reason_of(answer)}"
        run_id = orjson.loads(answer)["run"]["id"]
        if self.chance.random() < 0.3:
            return await self.post(f"/api/v1/runs/{run_id}:cancel", {})
        async with self.api.get(f"/api/v1/runs/{run_id}/events", headers=headers) as response:
            events = await response.read()
        return "200" if b'"ended":' in events else "200 broken"

    async def search(self) -> str:
        return await self.post("/api/v1/search", {"query": self.words(most=12), "top_k": 5})

    async def ingest(self) -> str:
        """Sends a document with new content in the place of the old."""
        text = "\n\n".join(f"# Part {part}\n{self.words(most=80)}" for part in range(5))
        source = f"page-{self.chance.randrange(SOURCES)}.md"
        pieces = [
            {"collection": "pages"},
            {"header": {"source": source, "mime_type": "text/markdown"}},
            {"data": base64.b64encode(text.encode()).decode()},
        ]
        headers = {"authorization": f"Bearer {self.secrets.roomy}"}
        async with self.api.post("/api/v1/documents:ingest", json=pieces, headers=headers) as response:
            answer = await response.read()
        if response.status != 200:
            return f"{response.status} {reason_of(answer)}"
        job_id = orjson.loads(answer)["job"]["id"]
        return await self.get(f"/api/v1/ingestJobs/{job_id}:watch")

    async def look(self) -> str:
        """Reads what needs no model."""
        message = {"role": "ROLE_USER", "parts": [{"text": self.words()}]}
        match self.chance.randrange(4):
            case 0:
                return await self.get("/v1/models")
            case 1:
                return await self.get("/api/v1/documents?page_size=20")
            case 2:
                return await self.post("/api/v1/tokens:count", {"model": MODEL, "messages": [message]})
            case _:
                generation = {"target": {"name": "auto"}, "messages": [message]}
                return await self.post("/api/v1/route:explain", {"generation": generation})


def script(provider: ProviderDouble) -> None:
    """Answers take a fifth of a second, unless the prompt asks for a fault."""
    provider.reset()
    for name, fault in FAULTS.items():
        match = Match(model=FRAIL, contains=f"(fault {name})")
        provider.script(match=match, reply=Reply(chunks=10), fault=fault, times=None)
    first = Match(model=MODEL, contains="(fault status-500 of the first)")
    provider.script(match=first, fault=FAULTS["status-500"], times=None)
    slow = Fault(delay_s=0.05, chunk_delay_s=0.01)
    provider.script(match=Match(stream=True), reply=Reply(chunks=20), fault=slow, times=None)
    provider.script(fault=Fault(delay_s=0.15), times=None)


async def make_secrets(suite: Suite) -> Secrets:
    return Secrets(
        roomy=await limited_key(suite),
        poor=await make_key(suite, "poor", requests_per_minute=6),
        short=await make_key(suite, "short", input_tokens=3),
    )


def native_client(suite: Suite) -> Any:
    """A gRPC client of the edge."""
    return remote(GATEWAY, suite.url.removeprefix("http://"))
