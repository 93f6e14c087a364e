"""The vendors' SDKs as judges: what the router sends is what they send, and what they read it reads."""

import asyncio
import contextlib
import inspect
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import anthropic
import openai
import orjson
import pytest
from google.protobuf import json_format

from quartet.router.v1 import router_pb2 as pb
from services.kit.call import Call
from services.kit.errors import QuartetError
from services.router.adapters.anthropic import responses as anthropic_responses
from services.router.adapters.anthropic.provider import VERSION, AnthropicProvider
from services.router.adapters.anthropic.requests import uses_sampling
from services.router.adapters.http.client import HttpClient
from services.router.adapters.http.dialing import Dialer, Egress
from services.router.adapters.openai import responses as openai_responses
from services.router.adapters.provider import DONE, Decoder
from services.router.adapters.sse import EventReader
from services.router.adapters.transport import NO_KEY
from tests.doubles.provider import ProviderDouble, Reply, ToolCall, Usage
from tests.unit.router.http_peer import Peer

HEADERS = ("accept", "authorization", "content-type", "host")
MODELS = {"openai": "gpt-4.1", "anthropic": "claude-opus-4-5"}
"""Those that take nearly everything, so that nearly everything is compared."""
GOLDEN = sorted(
    path
    for dialect in MODELS
    for path in (Path(__file__).parents[2] / "unit" / "gateway" / "golden").glob(f"{dialect}_*.json")
)
REPLIES = {
    "words": Reply(text="Naïve words,\nin two lines: ☃."),
    "thoughts": Reply(
        thinking="Hm, let me see.",
        text="Yes.",
        usage=Usage(input_tokens=9, output_tokens=5, cached_tokens=4, reasoning_tokens=3),
    ),
    "tools": Reply(
        text="I look.",
        tool_calls=(
            ToolCall(name="look", arguments={"at": ["a", {"b": 1.0}]}),
            ToolCall(name="look", arguments={"at": "c"}),
        ),
    ),
    "cut short": Reply(text="To be", finish_reason=None, chunks=1),
}


class Sdks(NamedTuple):
    openai: openai.AsyncOpenAI
    anthropic: anthropic.AsyncAnthropic


@pytest.fixture
async def sdks(double: ProviderDouble) -> AsyncIterator[Sdks]:
    async with (
        openai.AsyncOpenAI(api_key=NO_KEY, base_url=double.openai_url, max_retries=0) as one,
        anthropic.AsyncAnthropic(api_key=NO_KEY, base_url=double.url, max_retries=0) as other,
    ):
        yield Sdks(one, other)


def golden_prompt(path: Path, model: str) -> pb.Prompt:
    prompt = json_format.ParseDict(json.loads(path.read_text(encoding="utf-8"))["prompt"], pb.Prompt())
    prompt.target.model = model
    return prompt


async def send(create: Callable[..., Any], body: dict[str, Any], **options: Any) -> Any:
    """Calls a typed method of an SDK with a body's members; those it does not type go as it advises."""
    typed = inspect.signature(create).parameters
    known = {name: value for name, value in body.items() if name in typed}
    extra = {name: value for name, value in body.items() if name not in typed}
    return await create(**known, **({"extra_body": extra} if extra else {}), **options)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
async def test_what_goes_out_is_what_the_sdk_sends(
    routers: dict[str, Any],
    double: ProviderDouble,
    sdks: Sdks,
    call: Call,
    path: Path,
    stream: bool,
) -> None:
    model = MODELS[path.stem.partition("_")[0]]
    prompt = golden_prompt(path, model)
    router = routers["local"]
    with contextlib.suppress(QuartetError):
        if stream:
            request = pb.StreamGenerateRequest(prompt=prompt)
            async with aclosing(router.stream_generate(request, call)) as events:
                [event async for event in events]
        else:
            await router.generate(pb.GenerateRequest(prompt=prompt), call)
    (ours,) = double.requests
    options: dict[str, Any] = {}
    if model.startswith("claude") and uses_sampling(prompt.spec):
        options["extra_headers"] = {"anthropic-version": ours.headers["anthropic-version"]}
    create = sdks.anthropic.messages.create if "claude" in model else sdks.openai.chat.completions.create
    with contextlib.suppress(openai.APIStatusError, anthropic.APIStatusError):
        answer = await send(create, dict(ours.body), **options)
        if stream:
            await answer.close()
    theirs = double.requests[-1]
    assert len(double.requests) == 2
    assert ours.endpoint == theirs.endpoint
    assert ours.body == theirs.body
    names = (*HEADERS, "anthropic-version") if "claude" in model else HEADERS
    assert {name: ours.headers.get(name) for name in names} == {
        name: theirs.headers.get(name) for name in names
    }


async def test_texts_to_embed_go_out_as_the_sdk_sends_them(
    routers: dict[str, Any], double: ProviderDouble, sdks: Sdks, call: Call
) -> None:
    request = pb.EmbedRequest(model="text-embedding-3-small", texts=["one", "two"], dimensions=64)
    vectors = await routers["local"].embed(request, call)
    answer = await sdks.openai.embeddings.create(
        model="text-embedding-3-small", input=["one", "two"], dimensions=64, encoding_format="base64"
    )
    ours, theirs = double.requests
    assert (ours.endpoint, ours.body) == (theirs.endpoint, theirs.body)
    assert {name: ours.headers[name] for name in HEADERS} == {name: theirs.headers[name] for name in HEADERS}
    assert len(vectors.vectors) == 4 * 64 * len(answer.data)


class Heard(NamedTuple):
    """What an answer said, put together from its pieces."""

    text: str
    thinking: str
    calls: list[tuple[str, str, str]]
    tokens: tuple[int, int, int, int]


async def record(double: ProviderDouble, path: str, body: dict[str, Any]) -> bytes:
    """The bytes of a stream."""
    dialer = Dialer(double.url, connect_timeout_s=5, egress=Egress())
    client = HttpClient(double.url, dialer, {"authorization": "Bearer k"})
    headers = {"anthropic-version": VERSION} if path == AnthropicProvider.path else {}
    content, due = b"", time.monotonic() + 10
    async with await client.post(path, orjson.dumps(body), headers, due=due, max_bytes=1 << 24) as response:
        assert response.status == 200
        while chunk := await response.read():
            content += chunk
    await client.close()
    return content


@asynccontextmanager
async def replay(content: bytes) -> AsyncIterator[str]:
    """The address of a server that sends a recorded stream, cut anywhere."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        for start in range(0, len(content), 97):
            writer.write(content[start : start + 97])
            await asyncio.sleep(0)
        writer.close()

    async with Peer(answer) as peer:
        yield peer.url


def events_of(content: bytes) -> list[Any]:
    """The events as the router reads them, cut elsewhere."""
    reader = EventReader()
    found: list[bytes] = []
    for start in range(0, len(content), 61):
        found += reader.feed(content[start : start + 61])
    return [orjson.loads(data) for data in found if data != DONE]


def hear(decoder: Decoder, events: list[Any]) -> Heard:
    text = thinking = ""
    calls: dict[int, tuple[str, str, str]] = {}
    for delta in (delta for event in events for delta in decoder.feed(event)):
        text += delta.text
        thinking += delta.thinking.text
        if delta.HasField("tool_call"):
            before, piece = calls.get(delta.part_index, ("", "", "")), delta.tool_call
            calls[delta.part_index] = (
                before[0] + piece.id,
                before[1] + piece.name,
                before[2] + piece.arguments_json,
            )
    assert decoder.is_finished
    usage = decoder.completion().usage
    tokens = (usage.input_tokens, usage.output_tokens, usage.cached_input_tokens, usage.reasoning_tokens)
    return Heard(text, thinking, list(calls.values()), tokens)


@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES)
async def test_every_event_that_openai_s_sdk_reads_is_read(double: ProviderDouble, reply: Reply) -> None:
    double.script(reply=reply)
    body = {
        "model": "gpt-6-luna",
        "messages": [{"role": "user", "content": "hi"}],
        "tools": [{"type": "function", "function": {"name": "look"}}],
        "reasoning_effort": "none",
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    content = await record(double, "/v1/chat/completions", body)
    text = thinking = ""
    calls: dict[int, tuple[str, str, str]] = {}
    chunks = []
    async with (
        replay(content) as url,
        openai.AsyncOpenAI(api_key="k", base_url=url, max_retries=0) as sdk,
        await sdk.chat.completions.create(model="x", messages=[], stream=True) as stream,
    ):
        async for chunk in stream:
            chunks.append(chunk)
            for choice in chunk.choices:
                text += choice.delta.content or ""
                for call in choice.delta.tool_calls or ():
                    before, piece = calls.get(call.index, ("", "", "")), call.function
                    assert piece is not None
                    calls[call.index] = (
                        before[0] + (call.id or ""),
                        before[1] + (piece.name or ""),
                        before[2] + (piece.arguments or ""),
                    )
    events = events_of(content)
    assert events == [chunk.to_dict(mode="json") for chunk in chunks]
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert usage.completion_tokens_details is not None
    tokens = (
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.prompt_tokens_details.cached_tokens or 0,
        usage.completion_tokens_details.reasoning_tokens or 0,
    )
    heard = hear(openai_responses.StreamDecoder(), events)
    assert heard == Heard(text, thinking, list(calls.values()), tokens)
    assert heard.text or heard.calls


@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES)
async def test_every_event_that_anthropic_s_sdk_reads_is_read(double: ProviderDouble, reply: Reply) -> None:
    double.script(reply=reply)
    body = {
        "model": "claude-haiku-5-5",
        "max_tokens": 1000,
        "messages": [{"role": "user", "content": "hi"}],
        "tools": [{"name": "look", "input_schema": {"type": "object"}}],
        "thinking": {"type": "adaptive"},
        "stream": True,
    }
    content = await record(double, AnthropicProvider.path, body)
    text = thinking = ""
    calls: dict[int, tuple[str, str, str]] = {}
    read = []
    async with (
        replay(content) as url,
        anthropic.AsyncAnthropic(api_key="k", base_url=url, max_retries=0) as sdk,
        await sdk.messages.create(model="x", max_tokens=1, messages=[], stream=True) as stream,
    ):
        async for event in stream:
            read.append(event)
            if event.type == "content_block_start" and event.content_block.type == "tool_use":
                calls[event.index] = (event.content_block.id, event.content_block.name, "")
            elif event.type == "content_block_delta" and event.delta.type == "text_delta":
                text += event.delta.text
            elif event.type == "content_block_delta" and event.delta.type == "thinking_delta":
                thinking += event.delta.thinking
            elif event.type == "content_block_delta" and event.delta.type == "input_json_delta":
                before = calls[event.index]
                calls[event.index] = (before[0], before[1], before[2] + event.delta.partial_json)
    events = [event for event in events_of(content) if event["type"] != "ping"]
    assert events == [event.to_dict(mode="json") for event in read]
    heard = hear(anthropic_responses.StreamDecoder(), events)
    assert heard[:3] == Heard(text, thinking, list(calls.values()), (0, 0, 0, 0))[:3]
    (end,) = (event for event in read if event.type == "message_delta")
    assert heard.tokens[1] == end.usage.output_tokens
    assert heard.text or heard.calls
