"""Answers as HTTP bodies: what both dialects do alike."""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import orjson
from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]
from opentelemetry import trace

from services.gateway.domain.headers import request_id_of
from services.kit import names
from services.kit.call import Call
from services.kit.errors import QuartetError

STATUS = "x-quartet-status"
SHOULD_RETRY = "x-should-retry"
"""Heeded by both vendors' SDKs, which would else send a request that is in conflict twice more."""
_CONFLICT = 409
JSON = "application/json"
EVENT_STREAM = "text/event-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorShape:
    """How a dialect tells of an error.

    Attributes:
        status: The HTTP status.
        body: The JSON object, with the request's id.
        frame: The last frame of a stream that had begun.
    """

    status: Callable[[QuartetError], int]
    body: Callable[[QuartetError, str], Mapping[str, Any]]
    frame: Callable[[Mapping[str, Any]], bytes]


def json_body(value: Any) -> HttpBody:
    """A JSON answer."""
    return HttpBody(content_type=JSON, data=orjson.dumps(value))


def frames(data: bytes) -> HttpBody:
    """Server-sent events, one or more."""
    return HttpBody(content_type=EVENT_STREAM, data=data)


KEEPALIVE = frames(b": ping\n\n")
"""A comment, which every reader of server-sent events passes over."""


async def speak(answer: AsyncGenerator[HttpBody], call: Call, shape: ErrorShape) -> AsyncGenerator[HttpBody]:
    """The answer, with an error in the dialect's shape: a body with its status, or a stream's last frame."""
    begun = False

    def say_last(error: QuartetError) -> HttpBody:
        return frames(shape.frame(shape.body(error, request_id_of(call))))

    call.last_words = say_last
    async with aclosing(answer):
        try:
            async for body in answer:
                if body.content_type != EVENT_STREAM:
                    # Behind a whole answer nothing may come, even if the time runs out while it is sent.
                    call.last_words = None
                begun = True
                yield body
        except QuartetError as error:
            if begun:
                raise
            call.last_words = None
            # To gRPC the answer is a success: only this tells the trace that it is none.
            trace.get_current_span().set_attribute(names.ERROR_TYPE, error.status)
            status = shape.status(error)
            call.response_headers[STATUS] = str(status)
            if status == _CONFLICT:
                call.response_headers[SHOULD_RETRY] = "false"
            if error.retry_after is not None:
                call.response_headers[names.RETRY_AFTER] = error.retry_after
            yield json_body(shape.body(error, request_id_of(call)))
