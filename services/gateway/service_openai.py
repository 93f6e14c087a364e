from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]

from quartet.gateway.v1 import openai_pb2
from services.gateway.adapters.anthropic import models as anthropic_models
from services.gateway.adapters.anthropic.errors import ANTHROPIC_ERRORS
from services.gateway.adapters.http import KEEPALIVE, ErrorShape, frames, json_body, speak
from services.gateway.adapters.openai import models as openai_models
from services.gateway.adapters.openai.embeddings import read_embedding, write_embeddings
from services.gateway.adapters.openai.errors import OPENAI_ERRORS
from services.gateway.adapters.openai.request import read_chat
from services.gateway.adapters.openai.response import write_completion
from services.gateway.adapters.openai.responses_request import read_response
from services.gateway.adapters.openai.responses_response import write_response
from services.gateway.adapters.openai.responses_stream import ResponseWriter
from services.gateway.adapters.openai.stream import ChunkWriter
from services.gateway.domain.catalogue import Catalogue
from services.gateway.domain.front import Front
from services.gateway.domain.headers import ANTHROPIC_VERSION, Head
from services.kit.call import Call
from services.kit.errors import QuartetError


class OpenAIService:
    """`quartet.gateway.v1.OpenAIService`: OpenAI's HTTP API, and the models for both dialects."""

    def __init__(self, front: Front, catalogue: Catalogue) -> None:
        self._front = front
        self._catalogue = catalogue

    def create_chat_completion(self, request: HttpBody, call: Call) -> AsyncGenerator[HttpBody]:
        return speak(self._complete(request, call), call, OPENAI_ERRORS)

    def create_response(self, request: HttpBody, call: Call) -> AsyncGenerator[HttpBody]:
        return speak(self._respond(request, call), call, OPENAI_ERRORS)

    def create_embedding(self, request: HttpBody, call: Call) -> AsyncGenerator[HttpBody]:
        return speak(self._embed(request, call), call, OPENAI_ERRORS)

    def list_open_ai_models(
        self, _: openai_pb2.ListOpenAIModelsRequest, call: Call
    ) -> AsyncGenerator[HttpBody]:
        return speak(self._list_models(call), call, _shape(call))

    def get_open_ai_model(
        self, request: openai_pb2.GetOpenAIModelRequest, call: Call
    ) -> AsyncGenerator[HttpBody]:
        return speak(self._get_model(request.model, call), call, _shape(call))

    async def _complete(self, request: HttpBody, call: Call) -> AsyncGenerator[HttpBody]:
        caller = await self._front.enter(call, "CreateChatCompletion")
        chat = read_chat(request.data)
        if not chat.stream:
            answer = await self._front.answer(caller, chat.order)
            yield json_body(write_completion(answer, model=chat.model))
            return
        call.keepalive = KEEPALIVE
        writer: ChunkWriter | None = None
        async with aclosing(self._front.stream(caller, chat.order)) as events:
            async for event in events:
                if isinstance(event, Head):
                    writer = ChunkWriter(head=event, model=chat.model, include_usage=chat.include_usage)
                elif writer is not None and (written := writer.write(event)):
                    yield frames(written)

    async def _respond(self, request: HttpBody, call: Call) -> AsyncGenerator[HttpBody]:
        caller = await self._front.enter(call, "CreateResponse")
        asked = read_response(request.data)
        if not asked.stream:
            answer = await self._front.answer(caller, asked.order)
            yield json_body(write_response(answer, model=asked.model, told=asked.told))
            return
        call.keepalive = KEEPALIVE
        writer: ResponseWriter | None = None
        async with aclosing(self._front.stream(caller, asked.order)) as events:
            async for event in events:
                if isinstance(event, Head):
                    writer = ResponseWriter(head=event, model=asked.model, told=asked.told)
                    call.last_words = _failing(writer)
                elif writer is not None and (written := writer.write(event)):
                    yield frames(written)

    async def _embed(self, request: HttpBody, call: Call) -> AsyncGenerator[HttpBody]:
        caller = await self._front.enter(call, "CreateEmbedding")
        wanted = read_embedding(request.data)
        vectors = await self._front.embed(caller, wanted.request)
        yield json_body(write_embeddings(vectors, as_base64=wanted.as_base64))

    async def _list_models(self, call: Call) -> AsyncGenerator[HttpBody]:
        caller = await self._front.enter(call, "ListModels")
        found = await self._catalogue.list_models(caller.key, caller.outgoing())
        yield json_body((anthropic_models if _is_anthropic(call) else openai_models).write_models(found))

    async def _get_model(self, name: str, call: Call) -> AsyncGenerator[HttpBody]:
        caller = await self._front.enter(call, "ListModels")
        found = await self._catalogue.get_model(name, caller.key, caller.outgoing())
        yield json_body((anthropic_models if _is_anthropic(call) else openai_models).write_model(found))


def _failing(writer: ResponseWriter) -> Callable[[QuartetError], HttpBody]:
    """A stream of a response ends with one that failed, in the order of its events."""
    return lambda error: frames(writer.fail(error))


def _is_anthropic(call: Call) -> bool:
    return ANTHROPIC_VERSION in call.metadata


def _shape(call: Call) -> ErrorShape:
    return ANTHROPIC_ERRORS if _is_anthropic(call) else OPENAI_ERRORS
