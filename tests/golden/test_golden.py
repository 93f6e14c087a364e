"""What clients ask and providers answer, through gateway and router, as the golden files have it."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.golden.roundtrip import HERE, Requests, answer, refuse, stream

REQUESTS = sorted(HERE.glob("*/requests/*.json"))
ANSWERS = sorted(HERE.glob("*/answers/*.json"))
ERRORS = json.loads((HERE / "errors.json").read_text(encoding="utf-8"))
OURS = {"model", "max_tokens", "max_completion_tokens", "stream", "stream_options"}
"""What the suite sets itself: whom it asks, how much may be written, and how it comes."""


def name_of(path: Path) -> str:
    return f"{path.parts[-3]}-{path.stem}"


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def requests() -> Requests:
    return Requests()


@pytest.mark.parametrize("path", REQUESTS, ids=name_of)
def test_a_request_reaches_each_provider_as_written(requests: Requests, path: Path) -> None:
    golden = read(path)
    for provider, expected in golden["providers"].items():
        assert requests.send(path.parts[-3], golden["request"], provider) == expected


@pytest.mark.parametrize("path", [path for path in REQUESTS if path.parts[-3] != "responses"], ids=name_of)
def test_a_provider_of_the_same_dialect_gets_every_member(requests: Requests, path: Path) -> None:
    dialect, request = path.parts[-3], read(path)["request"]
    sent = requests.send(dialect, request, dialect)
    assert sent["adapted"] == []
    assert alike(sent["body"]) == alike(request)


@pytest.mark.parametrize("path", ANSWERS, ids=name_of)
def test_an_answer_reaches_each_client_as_written(path: Path) -> None:
    golden = read(path)
    for client, expected in golden["clients"].items():
        if "body" in expected:
            assert answer(path.parts[-3], golden["reply"], client) == expected["body"]
        if "events" in expected:
            assert stream(path.parts[-3], golden["events"], client) == expected["events"]


@pytest.mark.parametrize("path", [path for path in ANSWERS if "reply" in read(path)], ids=name_of)
def test_a_client_of_the_same_dialect_gets_every_member(path: Path) -> None:
    reply = read(path)["reply"]
    got = answer(path.parts[-3], reply, path.parts[-3])
    for name in ("id", "model", "created"):
        got.pop(name, None)
        reply.pop(name, None)
    assert covers(got, reply) == ""


@pytest.mark.parametrize("case", ERRORS, ids=lambda case: str(case["status"]))
def test_a_refusal_has_each_client_s_shape(case: Any) -> None:
    for client, expected in case["clients"].items():
        assert refuse(case["status"], case["message"], client) == expected


def alike(request: Any) -> Any:
    """A request in one of the forms that its vendor reads alike: see README.md."""
    body = {name: value for name, value in request.items() if name not in OURS and value is not None}
    if isinstance(stop := body.get("stop"), str):
        body["stop"] = [stop]
    if "system" in body:
        body["system"] = blocks(body["system"])
    if "tools" in body:
        body["tools"] = [
            {name: value for name, value in tool.items() if (name, value) != ("type", "custom")}
            if "input_schema" in tool
            else tool
            for tool in body["tools"]
        ]
    body["messages"] = [
        {
            **{name: value for name, value in message.items() if value is not None},
            "content": blocks(message.get("content") or ""),
        }
        for message in body["messages"]
    ]
    return body


def blocks(content: Any) -> Any:
    """Text is one block of it, in results, too."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return [
        {**block, "content": blocks(block["content"])} if block.get("type") == "tool_result" else block
        for block in content
    ]


def covers(got: Any, sent: Any, at: str = "") -> str:
    """The first place where what was sent is missing or otherwise; nulls and empty lists may be."""
    if isinstance(sent, dict) and isinstance(got, dict):
        found = (covers(got.get(name), value, f"{at}.{name}") for name, value in sent.items())
        return next(filter(None, found), "")
    if isinstance(sent, list) and isinstance(got, list) and len(got) == len(sent):
        found = (
            covers(one, value, f"{at}[{n}]") for n, (one, value) in enumerate(zip(got, sent, strict=True))
        )
        return next(filter(None, found), "")
    return "" if got == sent or (not sent and not got) else at
