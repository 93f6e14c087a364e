from collections.abc import AsyncGenerator

import orjson
import pytest
from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]

from services.gateway.adapters.anthropic.errors import ANTHROPIC_ERRORS
from services.gateway.adapters.http import JSON, ErrorShape, frames, json_body, speak
from services.gateway.adapters.openai.errors import OPENAI_ERRORS
from services.kit.call import Call
from services.kit.errors import DeadlineExceeded, Unavailable


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


async def test_a_stream_that_has_begun_may_end_in_an_error() -> None:
    call = Call.root(timeout_s=5)
    async for _ in speak(streamed(), call, OPENAI_ERRORS):
        assert call.last_words is not None
        last = call.last_words(DeadlineExceeded("out of time"))
        assert isinstance(last, HttpBody)
        assert b'"deadline_exceeded"' in last.data
