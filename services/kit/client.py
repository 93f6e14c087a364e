"""Clients of a contract: over gRPC (`remote`) and within the process (`local`), with the same behaviour."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from functools import cached_property
from typing import Any

import grpc
from google.protobuf.message import Message
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from services.kit import names
from services.kit.binding import Rpc, rpcs_of
from services.kit.call import Call, header_text
from services.kit.channel import Channel
from services.kit.errors import (
    Cancelled,
    DeadlineExceeded,
    QuartetError,
    Unavailable,
    from_proto,
    from_status,
)
from services.kit.execution import out_of_time
from services.kit.local import local
from services.kit.tracing import inject, start_client_span

__all__ = ["Channel", "local", "remote"]


class Remote:
    """A contract's methods, each a call to a peer; made by `remote`."""

    def __init__(self, service_name: str, channel: Channel) -> None:
        self._channel = channel
        for rpc in rpcs_of(service_name):
            setattr(self, rpc.attribute, _method(rpc, channel))

    async def close(self) -> None:
        """Closes the channel, for all its clients."""
        await self._channel.close()


def remote(service_name: str, address: str | Channel) -> Any:
    """A client of the contract at an address; the caller gives it the type of its own Protocol.

    Its methods are those of the service class. They raise the errors of `services.kit.errors`, at the latest
    at the call's deadline, and give a call up at once when their caller is cancelled or closes the stream.
    A client made from an address owns its connections and is closed; one made from a Channel shares them.
    """
    return Remote(service_name, Channel(address) if isinstance(address, str) else address)


def _method(rpc: Rpc, channel: Channel) -> Any:
    outgoing = _Outgoing(rpc, channel)
    if rpc.server_streaming:
        return outgoing.stream
    return outgoing.send_all if rpc.client_streaming else outgoing.send


class _Outgoing:
    """The calls of one rpc."""

    def __init__(self, rpc: Rpc, channel: Channel) -> None:
        self._rpc = rpc
        self._channel = channel

    @cached_property
    def _start(self) -> Any:
        kind = ("stream" if self._rpc.client_streaming else "unary") + (
            "_stream" if self._rpc.server_streaming else "_unary"
        )
        return getattr(self._channel.grpc, kind)(
            self._rpc.path,
            request_serializer=self._rpc.request_type.SerializeToString,
            response_deserializer=self._rpc.response_type.FromString,
        )

    async def send(self, request: Message, call: Call) -> Message:
        timeout_s = call.remaining_s()
        with start_client_span(self._rpc, self._channel.address) as span:
            operation = self._start(request, timeout=timeout_s, metadata=_metadata(call, inject(span)))
            try:
                response: Message = await operation
                await _receive_headers(operation, call)
                return response
            except grpc.aio.AioRpcError as error:
                raise self._translate(error, call) from None
            finally:
                operation.cancel()

    async def send_all(self, requests: AsyncIterator[Message], call: Call) -> Message:
        timeout_s = call.remaining_s()
        with start_client_span(self._rpc, self._channel.address) as span:
            operation = self._start(timeout=timeout_s, metadata=_metadata(call, inject(span)))
            feeding = asyncio.create_task(feed(operation, self._rpc.request_type.SerializeToString, requests))
            answering = asyncio.ensure_future(_answer(operation))
            try:
                await asyncio.wait((feeding, answering), return_when=asyncio.FIRST_COMPLETED)
                if feeding.done():
                    feeding.result()
                response = await answering
                await _receive_headers(operation, call)
                return response
            except grpc.aio.AioRpcError as error:
                raise self._translate(error, call) from None
            finally:
                operation.cancel()
                feeding.cancel()
                answering.cancel()
                await asyncio.gather(feeding, answering, return_exceptions=True)

    async def stream(self, request: Any, call: Call) -> AsyncIterator[Message]:
        timeout_s = call.remaining_s()
        error_field = self._rpc.error_field
        begun = False
        feeding: asyncio.Task[None] | None = None
        with start_client_span(self._rpc, self._channel.address) as span:
            metadata = _metadata(call, inject(span))
            if self._rpc.client_streaming:
                operation = self._start(timeout=timeout_s, metadata=metadata)
                serialize = self._rpc.request_type.SerializeToString
                feeding = asyncio.create_task(feed(operation, serialize, request))
            else:
                operation = self._start(request, timeout=timeout_s, metadata=metadata)
            try:
                async for response in operation:
                    if not begun:
                        begun = True
                        await _receive_headers(operation, call)
                    if error_field and response.HasField(error_field):
                        raise from_proto(getattr(response, error_field))
                    yield response
                if not begun:
                    await _receive_headers(operation, call)
            except grpc.aio.AioRpcError as error:
                raise self._translate(error, call) from None
            finally:
                operation.cancel()
                if feeding is not None:
                    feeding.cancel()
                    await asyncio.gather(feeding, return_exceptions=True)

    def _translate(self, error: grpc.aio.AioRpcError, call: Call) -> QuartetError:
        # gRPC sometimes loses the headers of a call that fails at once, so they come as trailers, too.
        for headers in (error.trailing_metadata(), error.initial_metadata()):
            call.response_headers.update(_texts(headers))
        details = b""
        for key, value in error.trailing_metadata() or ():
            if key == names.STATUS_DETAILS:
                details = value if isinstance(value, bytes) else b""
        code, message = error.code().value[0], error.details() or error.code().name
        # A server that stops cancels what it has not yet begun, and one's own cancelling never ends up here.
        if code in (Unavailable.code, Cancelled.code) and not details:
            message = f"cannot reach {self._rpc.name} at {self._channel.address}: {message}"
            return Unavailable(message, reason="PEER_UNREACHABLE", retry_after_s=1.0)
        if code == DeadlineExceeded.code and not details:
            return out_of_time(self._rpc.name)
        return from_status(code, message, details)


def _metadata(call: Call, trace: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    metadata = (*((key, header_text(value)) for key, value in call.metadata.items()), *trace)
    if call.tenant:
        metadata = (*metadata, (names.TENANT, call.tenant), (names.KEY_ID, call.key_id))
    if call.models is not None:
        metadata = (*metadata, (names.MODELS, ",".join(call.models)))
    return metadata


async def _receive_headers(operation: Any, call: Call) -> None:
    call.response_headers.update(_texts(await operation.initial_metadata()))


def _texts(metadata: Any) -> dict[str, str]:
    return {
        key: value for key, value in metadata or () if isinstance(value, str) and not key.startswith("grpc-")
    }


async def _answer(operation: Any) -> Message:
    response: Message = await operation
    return response


async def feed(
    operation: Any, serialize: Callable[[Message], bytes], requests: AsyncIterator[Message]
) -> None:
    """Sends every request; a peer that answers early ends it without an error.

    grpc.aio's own `write` is passed by: when the peer has ended the call, it puts INTERNAL in the place of
    the status that is on its way.
    """
    await operation._metadata_sent.wait()
    async for request in requests:
        if operation.done():
            return
        try:
            await operation._cython_call.send_serialized_message(serialize(request))
        except cygrpc.InternalError:
            return
    with contextlib.suppress(cygrpc.InternalError):
        await operation.done_writing()
