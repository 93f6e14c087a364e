"""One gRPC handler for each rpc of a binding: the outermost layer, where errors become statuses."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

import grpc
from google.protobuf.message import Message

from services.kit import names
from services.kit.binding import Binding, Rpc
from services.kit.call import Call, header_text
from services.kit.errors import QuartetError, Unimplemented
from services.kit.execution import Execution
from services.kit.settings import KitSettings
from services.kit.tracing import end_span, start_server_span
from services.kit.validation import validate

MAX_MESSAGE_CHARS = 1024
"""Of an error's text in the status: headers are bounded to 8 KiB by most peers."""

_CODES: Mapping[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}
_MAKERS = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}

Context = grpc.aio.ServicerContext[Any, Any]


def handlers(binding: Binding, settings: KitSettings) -> dict[str, "grpc.RpcMethodHandler[Any, Any]"]:
    """The handlers of a contract by the rpc's bare name; those without a method answer UNIMPLEMENTED."""
    return {rpc.name.rpartition("/")[2]: _handler(rpc, binding, settings) for rpc in binding.rpcs}


def _handler(rpc: Rpc, binding: Binding, settings: KitSettings) -> "grpc.RpcMethodHandler[Any, Any]":
    method = binding.method(rpc)
    timeout_s = settings.stream_timeout_s if rpc.server_streaming else settings.unary_timeout_s
    behaviour: Callable[[Any, Context], Awaitable[Message | None]]

    async def refuse(_: Any, context: Context) -> None:
        message = f"{rpc.name} is not offered by this version of the server"
        await _abort(context, Unimplemented(message))

    async def answer(request: Any, context: Context) -> Message:
        call = _call(context, timeout_s, binding.public)
        span = start_server_span(rpc, call.metadata)
        failure: BaseException | None = None
        try:
            async with Execution(rpc, call):
                response: Message = await method(_checked(rpc, request), call)
        except QuartetError as error:
            failure = error
        except BaseException as error:
            end_span(span, error)
            raise
        end_span(span, failure)
        if call.response_headers:
            await _send_headers(context, call)
        if failure is not None:
            await _abort(context, failure)
        return response

    async def stream(request: Any, context: Context) -> None:
        call = _call(context, timeout_s, binding.public)
        span = start_server_span(rpc, call.metadata)
        begun = False
        failure: QuartetError | None = None
        try:
            async with Execution(rpc, call), aclosing(method(_checked(rpc, request), call)) as responses:
                async for response in responses:
                    if not begun:
                        begun = True
                        await _send_headers(context, call)
                    await context.write(response)
        except QuartetError as error:
            failure = error
        except BaseException as error:
            end_span(span, error)
            raise
        end_span(span, failure)
        if failure is None:
            return
        if begun and rpc.error_field:
            await context.write(rpc.response_type(**{rpc.error_field: failure.to_proto()}))
        else:
            if not begun:
                await _send_headers(context, call)
            await _abort(context, failure)

    behaviour = refuse if method is None else stream if rpc.server_streaming else answer
    return _MAKERS[rpc.client_streaming, rpc.server_streaming](
        behaviour,
        request_deserializer=rpc.request_type.FromString,
        response_serializer=rpc.response_type.SerializeToString,
    )


def _call(context: Context, timeout_s: float, public: bool) -> Call:
    metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
    remaining_s = context.time_remaining()
    return Call(
        deadline=time.monotonic() + (timeout_s if remaining_s is None else remaining_s),
        tenant="" if public else metadata.get(names.TENANT, ""),
        key_id="" if public else metadata.get(names.KEY_ID, ""),
        metadata=metadata,
    )


def _checked(rpc: Rpc, request: Any) -> Any:
    if rpc.client_streaming:
        return _validated(request)
    validate(request)
    return request


async def _validated(requests: AsyncIterator[Message]) -> AsyncIterator[Message]:
    async for request in requests:
        validate(request)
        yield request


async def _send_headers(context: Context, call: Call) -> None:
    if call.response_headers:
        headers = [(key, header_text(value)) for key, value in call.response_headers.items()]
        await context.send_initial_metadata(headers)


async def _abort(context: Context, error: QuartetError) -> None:
    details = error.to_status().SerializeToString()
    message = error.message[:MAX_MESSAGE_CHARS]
    await context.abort(_CODES[error.code], message, ((names.STATUS_DETAILS, details),))
