"""Hostile messages over real sockets, through Envoy to every service: as tests/fuzz sends them in process."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from google.api import annotations_pb2  # type: ignore[import-untyped]
from google.protobuf import descriptor_pool, json_format
from google.protobuf.message import DecodeError, Message
from hypothesis import strategies as st

from services.kit.binding import Rpc, rpcs_of
from tests.doubles.provider import ProviderDouble
from tests.e2e.suite import Suite
from tests.fuzz.bodies import CHATS, DIALECTS, bodies
from tests.fuzz.door import Door, judge, judge_http, open_door
from tests.fuzz.effort import attempt_all
from tests.fuzz.messages import contracts, wires

PACKAGE = "quartet.gateway.v1"
RPCS = {
    rpc.name.removeprefix(f"{PACKAGE}."): rpc for contract in contracts(PACKAGE) for rpc in rpcs_of(contract)
}
PATIENCE_S = 30.0
MAX_CHANGED_BYTES = 4_000


def post_path(rpc: Rpc) -> str:
    """The address that takes the rpc's whole request as a body; empty when there is none."""
    method = descriptor_pool.Default().FindMethodByName(rpc.name.replace("/", "."))
    path: str = method.GetOptions().Extensions[annotations_pb2.http].post
    return "" if "{" in path or rpc.client_streaming else path


JSON_RPCS = [name for name, rpc in RPCS.items() if name not in DIALECTS and post_path(rpc)]


@pytest_asyncio.fixture(scope="module")
async def api(apart_suite: Suite, provider: ProviderDouble) -> AsyncIterator[aiohttp.ClientSession]:
    provider.reset()
    headers = {"x-api-key": apart_suite.api_key}
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    async with aiohttp.ClientSession(apart_suite.url, headers=headers, timeout=timeout) as session:
        yield session


@pytest_asyncio.fixture(scope="module")
async def door(apart_suite: Suite, api: aiohttp.ClientSession) -> AsyncIterator[Door]:
    async with open_door(apart_suite.url.removeprefix("http://"), apart_suite.api_key) as door:
        yield door


@pytest_asyncio.fixture(scope="module")
async def known(api: aiohttp.ClientSession) -> dict[str, list[str]]:
    """What exists: a key, and an answer."""
    async with api.post("/api/v1/keys", json={"name": "victim", "scopes": ["rpc:Generate"]}) as response:
        key_id = (await response.json())["key"]["id"]
    async with api.post("/v1/chat/completions", json=CHATS[0]) as response:
        trace_id = response.headers["x-quartet-trace-id"]
    async with api.post("/api/v1/outcomes", json={"trace_id": trace_id, "score": 1}) as response:
        assert response.status == 200
    return {"key_id": [key_id], "trace_id": [trace_id]}


@pytest.mark.parametrize("name", RPCS)
async def test_no_message_is_our_fault(door: Door, known: dict[str, list[str]], name: str) -> None:
    rpc = RPCS[name]

    async def attempt(sent: Sequence[bytes]) -> None:
        judge(await door.call(rpc, sent))

    wire = wires(rpc.request_type.DESCRIPTOR, known)
    sent = st.lists(wire, max_size=4) if rpc.client_streaming else st.tuples(wire)
    await attempt_all(sent, attempt, over_sockets=True)


@pytest.mark.parametrize("name", DIALECTS)
async def test_no_body_of_a_dialect_is_our_fault(api: aiohttp.ClientSession, name: str) -> None:
    path = post_path(RPCS[name])

    async def attempt(body: bytes) -> None:
        async with api.post(path, data=body, headers={"content-type": "application/json"}) as response:
            data = await response.read()
            if response.status != 501:
                judge_http(response.status, data)

    await attempt_all(bodies(DIALECTS[name]), attempt, over_sockets=True)


def as_json(rpc: Rpc, wire: bytes) -> Any:
    """A message as JSON; an empty one for what is none, or is too long to be changed in many places."""
    message = rpc.request_type()
    if len(wire) > MAX_CHANGED_BYTES:
        return {}
    try:
        message.ParseFromString(wire)
        return json.loads(json_format.MessageToJson(message, preserving_proto_field_name=True))
    except (DecodeError, ValueError, json_format.Error):
        return {}


@pytest.mark.parametrize("name", JSON_RPCS)
async def test_no_json_of_the_native_api_is_our_fault(
    api: aiohttp.ClientSession, known: dict[str, list[str]], name: str
) -> None:
    rpc = RPCS[name]
    path = post_path(rpc)

    async def attempt(body: bytes) -> None:
        async with api.post(path, data=body, headers={"content-type": "application/json"}) as response:
            data = await response.read()
            assert response.status < 500 or response.status == 501, (response.status, data[:500])
            assert data
            if response.status >= 400:
                assert json.loads(data)["message"], data[:500]

    written = wires(rpc.request_type.DESCRIPTOR, known).map(lambda wire: as_json(rpc, wire))
    await attempt_all(written.flatmap(lambda value: bodies([value])), attempt, over_sockets=True)


GRPC = "application/grpc"
# A call without any message is not among them: grpc.aio drops it silently, and the edge's idle time ends it.
FRAMES: Sequence[bytes] = (
    b"\x00",
    b"\x00\x00\x00\x00\x05ab",
    b"\x00\xff\xff\xff\xff",
    b"\x01\x00\x00\x00\x03abc",
    b"\x07\x00\x00\x00\x00",
    b"\x00\x00\x00\x00\x00" * 1000,
    b"garbage" * 1000,
)
HEADERS: Sequence[dict[str, str]] = (
    {"content-type": GRPC},
    {"content-type": "application/grpc+json"},
    {"content-type": "application/grpc-web-text"},
    {"content-type": "text/plain"},
    {"content-type": "application/xml; charset=\xff"},
    {"content-type": GRPC, "grpc-encoding": "gzip"},
    {"content-type": GRPC, "grpc-encoding": "nonsense"},
    {"content-type": GRPC, "grpc-timeout": "99999999999H"},
    {"content-type": GRPC, "grpc-timeout": "soon"},
    {"content-type": "application/json", "content-encoding": "gzip"},
    {"content-type": "application/json", "accept-encoding": "br;q=nan"},
    {"content-type": "application/json", "x-quartet-tenant": "other", "x-quartet-key-id": "qk_000000000000"},
)


@pytest.mark.parametrize("headers", HEADERS, ids=lambda headers: " ".join(headers.values()))
async def test_frames_that_are_none_end_the_call_and_nothing_else(
    api: aiohttp.ClientSession, headers: dict[str, str]
) -> None:
    for path in ("/quartet.gateway.v1.GatewayService/ListModels", "/v1/chat/completions"):
        for frame in FRAMES:
            async with asyncio.timeout(PATIENCE_S), api.post(path, data=frame, headers=headers) as response:
                data = await response.read()
                assert response.status < 500, (response.status, data[:200])
                assert b"Traceback" not in data
                assert (
                    "grpc-message" not in response.headers or "<class" not in response.headers["grpc-message"]
                )
    async with api.post("/v1/chat/completions", json=CHATS[0]) as response:
        assert response.status == 200


TURN = {"role": "ROLE_USER", "parts": [{"text": "hello"}]}
SAMPLES: dict[str, Any] = {
    "GatewayService/Generate": {
        "generation": {"target": {"name": "rag/default"}, "messages": [TURN], "session": "s"}
    },
    "GatewayService/StreamGenerate": {"generation": {"target": {"name": "agent"}, "messages": [TURN]}},
    "GatewayService/ExplainRoute": {"generation": {"messages": [TURN], "idempotency_key": "k"}},
    "GatewayService/CountTokens": {"messages": [TURN]},
    "GatewayService/Embed": {"model": "local/minilm", "texts": ["t"]},
    "DocumentService/CreateCollection": {"collection": {"name": "nul", "description": "d"}},
    "DocumentService/IngestDocuments": {"collection": "docs"},
    "DocumentService/Search": {"collection": "default", "query": "q"},
    "KeyService/CreateKey": {"name": "n", "scopes": ["rpc:Generate"]},
    "RunService/StartRun": {"task": {"messages": [TURN], "collection": "default"}, "idempotency_key": "k"},
}
"""Messages whose texts matter together; of the others every text of their own is set."""


@pytest.mark.parametrize("name", [name for name in RPCS if name not in DIALECTS])
async def test_a_nul_which_no_store_can_keep_is_never_our_fault(door: Door, name: str) -> None:
    rpc = RPCS[name]
    sample = rpc.request_type()
    if name in SAMPLES:
        json_format.ParseDict(SAMPLES[name], sample)
    else:
        for text in texts_of(sample, unset=True):
            setattr(sample, text.name, "a")
    for number in range(len(list(places_of_texts(sample)))):
        copy = rpc.request_type()
        copy.CopyFrom(sample)
        message, field = list(places_of_texts(copy))[number]
        if field.is_repeated:
            getattr(message, field.name)[0] = "a\x00b"
        else:
            setattr(message, field.name, "a\x00b")
        judge(await door.call(rpc, [copy.SerializeToString()]))


def texts_of(message: Message, *, unset: bool) -> list[Any]:
    """The fields of text that a message has, or those single ones that it could have."""
    if unset:
        fields = [field for field in message.DESCRIPTOR.fields if not field.is_repeated]
    else:
        fields = [field for field, _ in message.ListFields()]
    return [field for field in fields if field.type == field.TYPE_STRING]


def places_of_texts(message: Message) -> Iterator[tuple[Message, Any]]:
    """Every text within a message."""
    for field in texts_of(message, unset=False):
        yield message, field
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in value if field.is_repeated else (value,):
                yield from places_of_texts(inner)
