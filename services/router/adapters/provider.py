"""What the adapters of all wire formats do alike: post, decode, and stream without a message too many."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from quartet.common.v1.generation_pb2 import Completion, Delta, GenerationSpec
from services.kit.call import Call
from services.kit.errors import QuartetError
from services.router.adapters.transport import Patience, Transport
from services.router.domain import failures
from services.router.domain.adaptation import ModelRequest
from services.router.domain.joining import append_joined
from services.router.ports import Accepted, ProviderEvent

DONE = b"[DONE]"


class MalformedAnswerError(Exception):
    """The answer lacks what its format demands; the message says what."""


def read_tier(named: Any) -> str:
    """The tier at which a provider says it served; empty where it says nothing, or nothing that is a name."""
    return named if isinstance(named, str) and named.isidentifier() else ""


class Decoder(Protocol):
    """Puts the events of one streamed answer together."""

    @property
    def is_finished(self) -> bool:
        """Whether the answer is whole; false for one that broke off."""
        ...

    @property
    def is_last(self) -> bool:
        """Whether nothing follows the event fed last."""
        ...

    def feed(self, event: Any) -> Iterable[Delta]: ...

    def completion(self) -> Completion:
        """The end of the answer, without its message; raises MalformedAnswerError."""
        ...


class WireProvider(ABC):
    """A provider in one wire format; a subclass knows the format."""

    path: str

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.name = transport.provider

    async def generate(self, request: ModelRequest, call: Call) -> Completion:
        """The whole answer."""
        model = request.model.id
        body, headers = self._encode(request, stream=False), self._headers(request.spec)
        answer = await self._transport.post(self.path, body, model=model, call=call, headers=headers)
        try:
            return self._decode(answer)
        except MalformedAnswerError as error:
            raise failures.interrupted(self.name, model, str(error)) from None

    async def stream(self, request: ModelRequest, call: Call) -> AsyncGenerator[ProviderEvent]:
        """The answer as it is written; pieces of one part that come together are one delta."""
        model, decoder = request.model.id, self._decoder()
        body, headers = self._encode(request, stream=True), self._headers(request.spec)
        stream = self._transport.stream(
            self.path, body, model=model, call=call, headers=headers, patience=self._patience(request)
        )
        async with stream as events:
            yield Accepted()
            is_over = False
            while not is_over and (batch := await events.read()):
                deltas: list[Delta] = []
                failure: QuartetError | None = None
                try:
                    is_over = self._feed(decoder, batch, deltas, model)
                except QuartetError as error:
                    failure = error
                if is_over:
                    events.finish()
                for delta in deltas:
                    events.has_word = True
                    yield delta
                if failure is not None:
                    raise failure
        if not decoder.is_finished:
            raise failures.interrupted(self.name, model, "it has no end")
        try:
            completion = decoder.completion()
        except MalformedAnswerError as error:
            raise failures.interrupted(self.name, model, str(error)) from None
        yield completion

    def _patience(self, request: ModelRequest) -> Patience:
        """The transport's, where neither the route nor the model has one of its own."""
        patience = self._transport.patience
        if request.first_token_s is None and request.between_tokens_s is None:
            return patience
        return replace(
            patience,
            first_token_s=request.first_token_s or patience.first_token_s,
            between_tokens_s=request.between_tokens_s or patience.between_tokens_s,
        )

    def _feed(self, decoder: Decoder, batch: Iterable[bytes], deltas: list[Delta], model: str) -> bool:
        """Adds the deltas of events; True when the stream is over.

        What came before a fault is in `deltas` when it is raised.
        """
        for data in batch:
            if data == DONE:
                return True
            event = self._transport.read_json(data, model)
            if isinstance(event, dict) and (error := self._error_of(event)) is not None:
                status, message = error
                raise failures.from_http_status(status, message, provider=self.name, model=model)
            try:
                for delta in decoder.feed(event):
                    append_joined(deltas, delta)
            except MalformedAnswerError as fault:
                raise failures.interrupted(self.name, model, str(fault)) from None
            if decoder.is_last:
                return True
        return False

    @abstractmethod
    def _encode(self, request: ModelRequest, *, stream: bool) -> bytes: ...

    @abstractmethod
    def _decode(self, answer: Any) -> Completion:
        """Raises MalformedAnswerError."""

    @abstractmethod
    def _decoder(self) -> Decoder: ...

    @abstractmethod
    def _error_of(self, event: Mapping[str, Any]) -> tuple[int, str] | None:
        """The HTTP status that fits, and the provider's words, where an event tells of an error."""

    def _headers(self, spec: GenerationSpec) -> Mapping[str, str]:
        """Those that depend on the request."""
        del spec
        return {}
