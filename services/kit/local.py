"""A contract's client within the process: a peer's behaviour without a peer's cost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from google.protobuf.message import Message

from services.kit.binding import Binding, Rpc
from services.kit.call import Call, header_text
from services.kit.errors import Cancelled, QuartetError, Unimplemented, from_proto
from services.kit.execution import Execution
from services.kit.tasks import end
from services.kit.tracing import start_local_span
from services.kit.validation import validate

MAX_WAITING_MESSAGES = 16
"""Messages that a method may be ahead of its reader."""


class Local:
    """A contract's methods, each run in a task of its own; made by `local`."""

    def __init__(self, binding: Binding) -> None:
        for rpc in binding.rpcs:
            incoming = _Incoming(rpc, binding.method(rpc))
            setattr(self, rpc.attribute, incoming.stream if rpc.server_streaming else incoming.answer)

    async def close(self) -> None:
        """Does nothing: a remote client has connections to close."""


def local(service_name: str, service: object) -> Any:
    """A client of an object in this process that cannot be told from a client of the same object elsewhere.

    Messages are copied on the way, the deadline is enforced, errors and ends are those of a remote client.
    """
    return Local(Binding(service_name, service))


class _Incoming:
    """The calls of one rpc."""

    def __init__(self, rpc: Rpc, method: Any) -> None:
        self._rpc = rpc
        self._method = method

    async def answer(self, request: Any, call: Call) -> Message:
        served = self._admit(call)
        source = _Source(request) if self._rpc.client_streaming else None
        try:
            return await asyncio.create_task(self._answer(source or _copy(request), served))
        except Exception:
            if source and source.failure:
                raise source.failure from None
            raise
        finally:
            _receive_headers(served, call)

    async def stream(self, request: Any, call: Call) -> AsyncIterator[Message]:
        served = self._admit(call)
        source = _Source(request) if self._rpc.client_streaming else None
        waiting: asyncio.Queue[Message | None] = asyncio.Queue(MAX_WAITING_MESSAGES)
        task = asyncio.create_task(self._produce(source or _copy(request), served, waiting))
        error_field = self._rpc.error_field
        begun = False
        try:
            while (response := await waiting.get()) is not None:
                if not begun:
                    begun = True
                    _receive_headers(served, call)
                if error_field and response.HasField(error_field):
                    raise from_proto(getattr(response, error_field))
                yield response
            await task
        except Exception:
            if source and source.failure:
                raise source.failure from None
            raise
        finally:
            if not begun:
                _receive_headers(served, call)
            await end(task)
            del task  # its error's traceback holds this frame

    def _admit(self, call: Call) -> Call:
        call.remaining_s()
        if self._method is None:
            raise Unimplemented(f"{self._rpc.name} is not offered by this version of the server")
        metadata = {key: header_text(value) for key, value in call.metadata.items()}
        return Call(
            deadline=call.deadline,
            tenant=call.tenant,
            key_id=call.key_id,
            models=call.models,
            metadata=metadata,
        )

    async def _answer(self, request: Any, call: Call) -> Message:
        with start_local_span(self._rpc):
            async with Execution(self._rpc.name, call):
                if not self._rpc.client_streaming:
                    validate(request)
                return _copy(await self._method(request, call))

    async def _produce(self, request: Any, call: Call, waiting: asyncio.Queue[Message | None]) -> None:
        begun = False
        try:
            with start_local_span(self._rpc):
                async with Execution(self._rpc.name, call):
                    if not self._rpc.client_streaming:
                        validate(request)
                    async with aclosing(self._method(request, call)) as responses:
                        async for response in responses:
                            begun = True
                            await waiting.put(_copy(response))
        except QuartetError as error:
            if not begun or call.last_words is None:
                await waiting.put(None)
                raise
            await waiting.put(call.last_words(error))
        await waiting.put(None)


class _Source:
    """A caller's stream of requests as the method reads it; what that side raises is kept for the caller."""

    def __init__(self, requests: AsyncIterator[Message]) -> None:
        self._requests = requests
        self.failure: Exception | None = None

    def __aiter__(self) -> "_Source":
        return self

    async def __anext__(self) -> Message:
        try:
            request = await anext(self._requests)
        except StopAsyncIteration:
            raise
        except Exception as error:
            self.failure = error
            raise Cancelled("the caller gave the call up while sending") from None
        validate(request)
        return _copy(request)


def _copy(message: Message) -> Message:
    """A message of its own: neither side sees what the other does to it afterwards."""
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def _receive_headers(served: Call, call: Call) -> None:
    for key, value in served.response_headers.items():
        call.response_headers[key] = header_text(value)
