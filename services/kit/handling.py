"""One gRPC handler for each rpc of a binding: the outermost layer, where errors become statuses."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message

from services.kit import names
from services.kit.binding import Binding, Rpc
from services.kit.call import Call, header_text
from services.kit.errors import InvalidArgument, QuartetError, Unimplemented
from services.kit.execution import Execution
from services.kit.keepalive import Keepalive
from services.kit.settings import KitSettings
from services.kit.tracing import start_server_span
from services.kit.validation import validate

MAX_TIMEOUT_S = 3600.0
"""The longest that any call may take, whatever its client asks for."""

_MAX_TIMEOUT_DIGITS = 12
"""Of a time in milliseconds; numbers without end are slow to read."""

_HEADERS_TIMEOUT_S = 1.0
_PAUSES_S = (0.01, 0.05, 0.2, 0.5, 0.5)
"""Between attempts at a stream's last message, while gRPC still holds the one that the deadline cut off."""

_CODES: Mapping[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}
_MAKERS = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}

_NO_RETRY = ("grpc-retry-pushback-ms", "-1")
"""Keeps a client's retry policy to the transport's failures: a method's own refusal is final."""

Context = grpc.aio.ServicerContext[Any, Any]


def handlers(binding: Binding, settings: KitSettings) -> dict[str, Any]:
    """The gRPC handlers of a contract by the rpc's bare name; those without a method answer UNIMPLEMENTED."""
    return {rpc.name.rpartition("/")[2]: _handler(rpc, binding, settings) for rpc in binding.rpcs}


def _handler(rpc: Rpc, binding: Binding, settings: KitSettings) -> Any:
    served = _Served(rpc, binding, settings)
    if binding.method(rpc) is None:
        behaviour: Any = served.refuse
    else:
        behaviour = served.stream if rpc.server_streaming else served.answer
    return _MAKERS[rpc.client_streaming, rpc.server_streaming](
        behaviour,
        request_deserializer=_reader(rpc.request_type),
        response_serializer=rpc.response_type.SerializeToString,
    )


def _reader(kind: type[Message]) -> Callable[[bytes], Message | DecodeError]:
    """Reads a message, or gives the failure instead: one raised here would be a fault of the server's."""

    def read(data: bytes) -> Message | DecodeError:
        try:
            return kind.FromString(data)
        except DecodeError as error:
            return error

    return read


class _Served:
    """The calls of one rpc."""

    def __init__(self, rpc: Rpc, binding: Binding, settings: KitSettings) -> None:
        self._rpc = rpc
        self._public = binding.public
        self._method = binding.method(rpc)
        self._keepalive_s = settings.keepalive_s
        self._timeout_s = settings.stream_timeout_s if rpc.server_streaming else settings.unary_timeout_s

    async def refuse(self, _: Any, context: Context) -> None:
        await _abort(context, Unimplemented(f"{self._rpc.name} is not offered by this version of the server"))

    async def answer(self, request: Any, context: Context) -> Message | None:
        call = self._admit(context)
        try:
            with start_server_span(self._rpc, call.metadata):
                async with Execution(self._rpc.name, call):
                    response: Message = await self._method(self._check(request), call)
                if call.response_headers:
                    await context.send_initial_metadata(_headers_of(call))
                return response
        except QuartetError as error:
            await _abort(context, error, _headers_of(call))
            return None

    async def stream(self, request: Any, context: Context) -> None:
        call = self._admit(context)
        begun = False
        try:
            with start_server_span(self._rpc, call.metadata):
                async with (
                    Execution(self._rpc.name, call),
                    Keepalive(context, call, self._keepalive_s) as keepalive,
                    aclosing(self._method(self._check(request), call)) as responses,
                ):
                    async for response in responses:
                        if not begun:
                            begun = True
                            await _send_headers(context, call)
                            keepalive.begin()
                        await keepalive.write(response)
        except QuartetError as error:
            last = self._last_message(call, error) if begun else None
            if last is not None and await _write_last(context, last):
                return
            await _abort(context, error, _headers_of(call))

    def _last_message(self, call: Call, error: QuartetError) -> Message | None:
        """With which a stream that has begun ends in an error; None where only a status can tell."""
        if self._rpc.error_field:
            return self._rpc.response_type(**{self._rpc.error_field: error.to_proto()})
        return call.last_words(error) if call.last_words else None

    def _admit(self, context: Context) -> Call:
        metadata = {
            key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)
        }
        remaining_s: float | None = context.time_remaining()
        if remaining_s is None:
            remaining_s = _wished_s(metadata) if self._public else None
        timeout_s = self._timeout_s if remaining_s is None else min(remaining_s, MAX_TIMEOUT_S)
        return Call(
            deadline=time.monotonic() + timeout_s,
            tenant="" if self._public else metadata.get(names.TENANT, ""),
            key_id="" if self._public else metadata.get(names.KEY_ID, ""),
            models=None if self._public else _read_models(metadata),
            metadata=metadata,
        )

    def _check(self, request: Any) -> Any:
        return self._checked_all(request) if self._rpc.client_streaming else self._checked(request)

    def _checked(self, request: Message | DecodeError) -> Message:
        if isinstance(request, DecodeError):
            raise InvalidArgument(
                f"the request cannot be read as a {self._rpc.request_type.DESCRIPTOR.full_name}: "
                "make the client anew from this version's contracts",
                reason="UNREADABLE_REQUEST",
            )
        validate(request)
        return request

    async def _checked_all(self, requests: AsyncIterator[Message | DecodeError]) -> AsyncIterator[Message]:
        async for request in requests:
            yield self._checked(request)


def _read_models(metadata: Mapping[str, str]) -> tuple[str, ...] | None:
    """The models that the key may use; None where nothing is said of them."""
    models = metadata.get(names.MODELS)
    return None if models is None else tuple(models.split(","))


def _wished_s(metadata: Mapping[str, str]) -> float | None:
    """What a client without gRPC deadlines asks for; None also for what the service will refuse."""
    wish = metadata.get(names.TIMEOUT_HEADER, "")
    if not (wish.isascii() and wish.isdigit() and len(wish) <= _MAX_TIMEOUT_DIGITS):
        return None
    return int(wish) / 1000 or None


def _headers_of(call: Call) -> tuple[tuple[str, str], ...]:
    return tuple((key, header_text(value)) for key, value in call.response_headers.items())


async def _send_headers(context: Context, call: Call) -> None:
    """Sends them once: gRPC would not know of those whose sending a deadline cut off, and send them again."""
    if not call.response_headers:
        return
    sending = asyncio.ensure_future(context.send_initial_metadata(_headers_of(call)))
    # That a client is gone, whom nobody waits for any more, is no fault to log.
    sending.add_done_callback(lambda task: task.cancelled() or task.exception())
    try:
        await asyncio.shield(sending)
    except asyncio.CancelledError:
        await asyncio.wait((sending,), timeout=_HEADERS_TIMEOUT_S)
        raise


async def _write_last(context: Context, message: Message) -> bool:
    """Writes behind a message given up half-way: gRPC takes one at a time. False when it never did."""
    for pause_s in _PAUSES_S:
        try:
            await context.write(message)
        except grpc.aio.InternalError:
            await asyncio.sleep(pause_s)
        else:
            return True
    return False


async def _abort(context: Context, error: QuartetError, headers: tuple[tuple[str, str], ...] = ()) -> None:
    status = error.to_status()
    # The headers go with the status: one frame is cheaper than two, and gRPC loses the first of two at times.
    trailers = ((names.STATUS_DETAILS, status.SerializeToString()), _NO_RETRY, *headers)
    if error.retry_after is not None:
        # For clients of the JSON API; those of gRPC have it in the details, too.
        trailers += ((names.RETRY_AFTER, error.retry_after),)
    try:
        await context.abort(_CODES[error.code], status.message, trailers)
    except grpc.aio.AbortError as aborted:
        # gRPC keeps it and raises it again. With its traceback it would hold the call, and itself, for long.
        aborted.__traceback__ = aborted.__context__ = None
