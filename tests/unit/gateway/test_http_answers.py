from collections.abc import AsyncGenerator

import orjson
import pytest
from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]

from services.gateway.adapters.anthropic.errors import ANTHROPIC_ERRORS
from services.gateway.adapters.http import JSON, ErrorShape, frames, json_body, speak
from services.gateway.adapters.openai.errors import OPENAI_ERRORS
from services.kit.call import Call
from services.kit.errors import BY_CODE, DeadlineExceeded, Unavailable


async def failing() -> AsyncGenerator[HttpBody]:
    for reason in ("PROVIDER_UNAVAILABLE",):
        raise Unavailable("nobody is there", reason=reason)
    yield json_body({})


async def whole() -> AsyncGenerator[HttpBody]:
    yield json_body({"id": "answer"})


async def streamed() -> AsyncGenerator[HttpBody]:
    yield frames(b"data: {}\n\n")


@pytest.mark.parametrize("shape", [OPENAI_ERRORS, ANTHROPIC_ERRORS], ids=["openai", "anthropic"])
@pytest.mark.parametrize("answer", [failing, whole])
async def test_behind_a_whole_answer_or_error_no_last_word_may_come(
    shape: ErrorShape, answer: object
) -> None:
    call = Call.root(timeout_s=5)
    assert callable(answer)
    bodies = [body async for body in speak(answer(), call, shape)]
    assert [body.content_type for body in bodies] == [JSON]
    assert orjson.loads(bodies[0].data)
    assert call.last_words is None


@pytest.mark.parametrize("shape", [OPENAI_ERRORS, ANTHROPIC_ERRORS], ids=["openai", "anthropic"])
def test_only_what_may_be_asked_for_again_has_a_status_that_sdks_ask_again_at(shape: ErrorShape) -> None:
    at = {kind.status: shape.status(kind("no")) for kind in BY_CODE.values()}
    final = {"INVALID_ARGUMENT", "NOT_FOUND", "PERMISSION_DENIED", "UNAUTHENTICATED", "CANCELLED"}
    assert not [name for name in final if at[name] in (408, 409, 429) or at[name] >= 500]
    assert at["CANCELLED"] == 499
    assert all(at[name] >= 500 for name in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL"))


async def test_a_stream_that_has_begun_may_end_in_an_error() -> None:
    call = Call.root(timeout_s=5)
    async for _ in speak(streamed(), call, OPENAI_ERRORS):
        assert call.last_words is not None
        last = call.last_words(DeadlineExceeded("out of time"))
        assert isinstance(last, HttpBody)
        assert b'"deadline_exceeded"' in last.data
