from collections.abc import AsyncGenerator
from contextlib import aclosing

from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]

from services.gateway.adapters.anthropic.errors import ANTHROPIC_ERRORS
from services.gateway.adapters.anthropic.request import BETA, MessageRequest, read_message
from services.gateway.adapters.anthropic.response import write_message
from services.gateway.adapters.anthropic.stream import EventWriter
from services.gateway.adapters.http import KEEPALIVE, frames, json_body, speak
from services.gateway.domain.admission import Admission
from services.gateway.domain.catalogue import Catalogue
from services.gateway.domain.front import Front
from services.gateway.domain.headers import Head
from services.kit.call import Call


class AnthropicService:
    """`quartet.gateway.v1.AnthropicService`: Anthropic's HTTP API."""

    def __init__(self, front: Front, admission: Admission, catalogue: Catalogue) -> None:
        self._front = front
        self._admission = admission
        self._catalogue = catalogue

    def create_message(self, request: HttpBody, call: Call) -> AsyncGenerator[HttpBody]:
        return speak(self._answer(request, call), call, ANTHROPIC_ERRORS)

    def count_message_tokens(self, request: HttpBody, call: Call) -> AsyncGenerator[HttpBody]:
        return speak(self._count(request, call), call, ANTHROPIC_ERRORS)

    async def _answer(self, request: HttpBody, call: Call) -> AsyncGenerator[HttpBody]:
        caller = await self._front.enter(call, "CreateMessage")
        message = read_message(request.data, beta=call.metadata.get(BETA, ""))
        if not message.stream:
            answer = await self._front.answer(caller, message.order)
            yield json_body(write_message(answer, model=message.model))
            return
        call.keepalive = KEEPALIVE
        async with aclosing(self._front.stream(caller, message.order)) as events:
            writer: EventWriter | None = None
            async for event in events:
                if isinstance(event, Head):
                    writer = _writer(message, event)
                elif writer is not None and (written := writer.write(event)):
                    yield frames(written)

    async def _count(self, request: HttpBody, call: Call) -> AsyncGenerator[HttpBody]:
        caller = await self._front.enter(call, "CountTokens")
        message = read_message(request.data, counting=True)
        target, prompt = message.order
        with self._front.hold(caller):
            await self._catalogue.check_name(message.model, caller.key, caller.outgoing())
            count = await self._admission.count_prompt(caller, target, prompt)
        yield json_body({"input_tokens": count.tokens})


def _writer(message: MessageRequest, head: Head) -> EventWriter:
    # Made late, since only admission counts the tokens that the stream begins with.
    return EventWriter(head=head, model=message.model, input_tokens=message.order.prompt.input_tokens)
