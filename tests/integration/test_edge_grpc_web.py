"""gRPC-Web over HTTP/1.1, byte by byte, as a browser speaks it."""

import base64
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from quartet.gateway.v1 import gateway_pb2
from tests.integration.edge import GENERATE, STREAM_GENERATE, Edge, frame, hello, run_edge

BINARY = "application/grpc-web+proto"
TEXT = "application/grpc-web-text+proto"
TRAILERS = 0x80


@pytest_asyncio.fixture(scope="module")
async def edge(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    async with run_edge(tmp_path_factory.mktemp("edge") / "home") as running:
        yield running


async def post(edge: Edge, path: str, kind: str, body: bytes) -> tuple[list[bytes], dict[str, str]]:
    """The messages of the answer, and the trailers that come as its last frame."""
    sent = base64.b64encode(body) if kind == TEXT else body
    headers = {"content-type": kind, "accept": kind, "x-grpc-web": "1"}
    async with edge.http.post(f"{edge.url}{path}", data=sent, headers=headers) as answer:
        assert answer.status == 200
        assert answer.headers["content-type"] == kind
        read = await answer.read()
        if "grpc-status" in answer.headers:
            return [], {name.lower(): value for name, value in answer.headers.items()}
    # A text answer is base64 in pieces, each with padding of its own.
    data = b"".join(map(base64.b64decode, pieces(read))) if kind == TEXT else read
    messages, trailers = [], {}
    while data:
        flag, size = data[0], int.from_bytes(data[1:5], "big")
        content, data = data[5 : 5 + size], data[5 + size :]
        if flag == TRAILERS:
            lines = content.decode().split("\r\n")
            trailers = dict(line.split(":", 1) for line in lines if line)
        else:
            messages.append(content)
    return messages, trailers


def pieces(text: bytes) -> list[bytes]:
    return [text[start : start + 4] for start in range(0, len(text), 4)]


@pytest.mark.parametrize("kind", [BINARY, TEXT])
async def test_a_whole_answer(edge: Edge, kind: str) -> None:
    messages, trailers = await post(edge, GENERATE, kind, frame(hello()))
    (answer,) = map(gateway_pb2.GenerateResponse.FromString, messages)
    assert answer.completion.message.parts[0].text == "Hello"
    assert trailers["grpc-status"] == "0"


@pytest.mark.parametrize("kind", [BINARY, TEXT])
async def test_a_streamed_answer(edge: Edge, kind: str) -> None:
    request = gateway_pb2.StreamGenerateRequest(generation=hello().generation)
    messages, trailers = await post(edge, STREAM_GENERATE, kind, frame(request))
    events = [gateway_pb2.StreamGenerateResponse.FromString(message) for message in messages]
    assert [event.delta.text for event in events] == ["Hello", " there"]
    assert trailers["grpc-status"] == "0"


@pytest.mark.parametrize("kind", [BINARY, TEXT])
async def test_a_refusal(edge: Edge, kind: str) -> None:
    messages, trailers = await post(edge, GENERATE, kind, frame(gateway_pb2.GenerateRequest()))
    assert not messages
    assert trailers["grpc-status"] == "3"
    assert "generation" in trailers["grpc-message"]
