"""Answers as the response log keeps them, and the requests that it keeps them for."""

import hashlib
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, NamedTuple

import orjson
from google.protobuf.message import Message

from quartet.common.v1 import decision_pb2, generation_pb2, run_pb2, stage_pb2
from quartet.gateway.v1 import gateway_pb2
from quartet.router.v1 import router_pb2
from services.gateway.domain.admission import Caller
from services.gateway.domain.dispatch import Answer, Event, Vectors
from services.gateway.domain.headers import RESUME_KEY, Head
from services.gateway.domain.response_entries import Slot
from services.gateway.domain.response_log import ResponseLog
from services.gateway.domain.response_reader import KEEP_S, KEEP_STREAM_S, Ask
from services.gateway.domain.targets import Target
from services.kit.call import Call
from services.kit.errors import FailedPrecondition, InvalidArgument

EVENT_FIELDS = {
    decision_pb2.Decision: "decision",
    generation_pb2.Delta: "delta",
    stage_pb2.StageReport: "stage",
    run_pb2.RunEvent: "run_event",
    generation_pb2.Completion: "end",
}
"""Where `StreamGenerateResponse` holds each event."""


class Resume(NamedTuple):
    """What a client asks of a stream beyond its answer.

    `first_event` is the number, from 1, of the event with which the stream is taken up; 0 begins it.
    """

    resumable: bool = False
    first_event: int = 0


NOT_RESUMABLE = Resume()


def read_ask(
    caller: Caller, target: Target, prompt: router_pb2.Prompt, resume: Resume | None = None
) -> Ask | None:
    """What the response log is asked, or None; `resume` is None for a whole answer.

    Takes the idempotency key out of the prompt: one log keeps it, and no peer does. A resumable stream
    without a key gets one, which is told in the response headers.

    Raises:
        InvalidArgument: A stream is to be taken up, and its key is not named.
    """
    key, prompt.idempotency_key = prompt.idempotency_key, ""
    keep_s = KEEP_S
    if not key:
        if resume is None or resume == NOT_RESUMABLE:
            return None
        if resume.first_event:
            message = f"name the key of the stream to be taken up: its own, or the one in {RESUME_KEY}"
            field = "generation.idempotency_key"
            raise InvalidArgument.field(field, message, reason="IDEMPOTENCY_KEY_MISSING")
        key, keep_s = f"resume_{secrets.token_hex(16)}", KEEP_STREAM_S
        caller.call.response_headers[RESUME_KEY] = key
    return Ask(
        slot=Slot(caller.call.tenant, key),
        rpc=caller.rpc,
        fingerprint=_fingerprint(caller, target, prompt, streamed=resume is not None),
        keep_s=keep_s,
        first=resume.first_event if resume else 0,
    )


def read_ask_for_texts(caller: Caller, request: router_pb2.EmbedRequest) -> Ask | None:
    """As `read_ask`, of texts to embed: their key stands in the headers."""
    if not (key := caller.options.idempotency_key):
        return None
    bare = router_pb2.EmbedRequest()
    bare.CopyFrom(request)
    bare.budget.ClearField("account_id")
    fingerprint = _hash((caller.rpc,), bare)
    return Ask(slot=Slot(caller.call.tenant, key), rpc=caller.rpc, fingerprint=fingerprint)


class Responses:
    """Answers and streams out of the response log, or into it.

    Args:
        log: None refuses them.
    """

    def __init__(self, log: ResponseLog | None) -> None:
        self._log = log

    async def answer(self, ask: Ask, make: Callable[[Call], Awaitable[Answer]], call: Call) -> Answer:
        """The whole answer; raises as `ResponseLog.serve`."""

        async def write(own: Call) -> AsyncGenerator[bytes]:
            made = await make(own)
            yield _write_head(made.head)
            yield _write_answer(made)

        head, data = await self._read_whole(ask, write, call)
        return _read_answer(head, data)

    async def embed(self, ask: Ask, make: Callable[[Call], Awaitable[Vectors]], call: Call) -> Vectors:
        """The vectors; raises as `ResponseLog.serve`."""

        async def write(own: Call) -> AsyncGenerator[bytes]:
            made = await make(own)
            yield _write_head(made.head)
            yield made.response.SerializeToString()

        head, data = await self._read_whole(ask, write, call)
        return Vectors(response=router_pb2.EmbedResponse.FromString(data), head=head)

    async def _read_whole(
        self, ask: Ask, write: Callable[[Call], AsyncGenerator[bytes]], call: Call
    ) -> tuple[Head, bytes]:
        """The two messages of what is no stream; the headers are set."""
        async with aclosing(self._open().serve(ask, write, call)) as messages:
            # Read to its end: only then it is kept.
            first, data = [message async for message in messages]
        head = _read_head(first)
        call.response_headers.update(head.headers)
        return head, data

    async def stream(
        self, ask: Ask, make: Callable[[Call], AsyncGenerator[Head | Event]], call: Call
    ) -> AsyncGenerator[Head | Event]:
        """The answer piece by piece; raises as `ResponseLog.serve`."""

        async def write(own: Call) -> AsyncGenerator[bytes]:
            async with aclosing(make(own)) as events:
                async for event in events:
                    yield _write_head(event) if isinstance(event, Head) else _write_event(event)

        begun = False
        async with aclosing(self._open().serve(ask, write, call)) as messages:
            async for message in messages:
                if begun:
                    yield _read_event(message)
                    continue
                begun = True
                head = _read_head(message)
                call.response_headers.update(head.headers)
                yield head

    def _open(self) -> ResponseLog:
        if self._log is None:
            raise FailedPrecondition(
                "idempotency keys and resumable streams need Redis: set REDIS_URL for the gateway, "
                "or leave out the key and `resumable`",
                reason="RESPONSE_LOG_NOT_CONFIGURED",
            )
        return self._log


def _write_head(head: Head) -> bytes:
    """An answer's first message."""
    return orjson.dumps(tuple(head))


def _read_head(data: bytes) -> Head:
    return Head(*orjson.loads(data))


def _write_event(event: Event) -> bytes:
    """A later message of a stream."""
    response = gateway_pb2.StreamGenerateResponse()
    getattr(response, EVENT_FIELDS[type(event)]).CopyFrom(event)
    return response.SerializeToString()


def _read_event(data: bytes) -> Event:
    response = gateway_pb2.StreamGenerateResponse.FromString(data)
    event: Event = getattr(response, response.WhichOneof("event") or "")
    return event


def _write_answer(answer: Answer) -> bytes:
    """The second and last message of a whole answer."""
    response = gateway_pb2.GenerateResponse(
        decision=answer.decision, completion=answer.completion, stages=answer.stages, run=answer.run
    )
    return response.SerializeToString()


def _read_answer(head: Head, data: bytes) -> Answer:
    response = gateway_pb2.GenerateResponse.FromString(data)
    return Answer(
        decision=response.decision,
        completion=response.completion,
        stages=list(response.stages),
        run=response.run if response.HasField("run") else None,
        head=head,
    )


def _fingerprint(caller: Caller, target: Target, prompt: router_pb2.Prompt, *, streamed: bool) -> str:
    """Tells whether two requests ask the same of the same models: not how urgently, nor on whose account."""
    bare = router_pb2.Prompt()
    bare.CopyFrom(prompt)
    for name in ("priority", "input_tokens", "run_id"):
        bare.ClearField(name)
    bare.budget.ClearField("account_id")
    served = (caller.rpc, streamed, target.kind.value, target.name, target.collection)
    models = caller.call.models
    return _hash(served if models is None else (*served, *models), bare)


def _hash(served: tuple[Any, ...], asked: Message) -> str:
    return hashlib.sha256(orjson.dumps(served) + asked.SerializeToString(deterministic=True)).hexdigest()
