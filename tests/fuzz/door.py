"""The way in for hostile messages, and what may come out: an answer, or an error that blames the client."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import orjson
from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]

from services.kit.binding import Rpc
from services.kit.client import feed
from services.kit.errors import QuartetError, from_proto, from_status
from services.kit.names import STATUS_DETAILS

PATIENCE_S = 20.0
"""Longer than any call here may take: what comes later counts as never."""
STATUS = "x-quartet-status"
BLAMES_CLIENT = {
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "OUT_OF_RANGE",
    "ABORTED",
    "UNIMPLEMENTED",
}
"""Statuses that a wrong request may have. Neither INTERNAL and UNKNOWN nor UNAVAILABLE is among them."""
WITHOUT_FIELD = {
    "INVALID_JSON",
    "UNREADABLE_REQUEST",
    "REQUEST_TOO_LARGE",
    "TOO_MANY_ELEMENTS",
    "PROVIDER_REFUSED",
    "MODEL_DOES_NOT_FIT",
    "NO_MODEL_FITS",
}
"""Reasons of INVALID_ARGUMENT where the whole is at fault, or what no one field is to blame for."""
_INNARDS = re.compile(r"Traceback|<class|File \"|0x[0-9a-f]{8,}|NoneType|object has no|services\.")
_REASON = re.compile(r"[A-Z][A-Z0-9_]{2,63}")


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of a call."""

    responses: list[Any] = field(default_factory=list)
    headers: Mapping[str, str] = field(default_factory=dict)
    error: QuartetError | None = None
    """The status, or the error with which a stream ended."""

    @property
    def http_status(self) -> int:
        return int(self.headers.get(STATUS, "200"))

    @property
    def is_answer(self) -> bool:
        return self.error is None and self.http_status < 400

    @property
    def kind(self) -> str:
        """`answered`, or the status."""
        if self.error is not None:
            return self.error.status
        return "answered" if self.is_answer else str(self.http_status)


class Door:
    """Calls any rpc with bytes as they are, over gRPC; made by `open_door`."""

    def __init__(self, channel: grpc.aio.Channel, secret: str) -> None:
        self._channel = channel
        self.secret = secret

    async def call(
        self, rpc: Rpc, wires: Sequence[bytes], metadata: Sequence[tuple[str, str | bytes]] | None = None
    ) -> Outcome:
        """Sends the messages, of which only a client's stream has several; raises TimeoutError for a hang."""
        sent = (("x-api-key", self.secret),) if metadata is None else tuple(metadata)
        sides = [("unary", "stream")[streams] for streams in (rpc.client_streaming, rpc.server_streaming)]
        make: Any = getattr(self._channel, "_".join(sides))
        method: Any = make(rpc.path, response_deserializer=rpc.response_type.FromString)
        call = method(metadata=sent) if rpc.client_streaming else method(wires[0], metadata=sent)
        outcome = Outcome()
        try:
            async with asyncio.timeout(PATIENCE_S):
                if rpc.client_streaming:
                    await feed(call, _as_it_is, _each(wires))
                if rpc.server_streaming:
                    outcome.responses.extend([response async for response in call])
                else:
                    outcome.responses.append(await call)
                outcome.headers = {key: str(value) for key, value in await call.initial_metadata()}
        except grpc.aio.AioRpcError as error:
            details = [value for key, value in error.trailing_metadata() or () if key == STATUS_DETAILS]
            encoded = details[0] if details and isinstance(details[0], bytes) else b""
            outcome.error = from_status(error.code().value[0], error.details() or "", encoded)
        finally:
            call.cancel()
        if outcome.error is None and rpc.error_field:
            failures = [r for r in outcome.responses if r.HasField(rpc.error_field)]
            assert failures in ([], outcome.responses[-1:]), "an error is a stream's last message"
            outcome.error = from_proto(getattr(failures[0], rpc.error_field)) if failures else None
        return outcome


def _as_it_is(wire: Any) -> bytes:
    data: bytes = wire
    return data


async def _each(wires: Sequence[bytes]) -> AsyncIterator[Any]:
    for wire in wires:
        yield wire


@asynccontextmanager
async def open_door(address: str, secret: str) -> AsyncIterator[Door]:
    """A door to a gRPC address."""
    options = [("grpc.max_send_message_length", -1), ("grpc.max_metadata_size", 64 * 1024)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        yield Door(channel, secret)


def judge(outcome: Outcome) -> None:
    """Fails unless the outcome is an answer or a typed error that blames the client and says why."""
    if outcome.error is not None:
        judge_error(outcome.error)
    elif outcome.responses and isinstance(outcome.responses[0], HttpBody):
        judge_http(outcome.http_status, b"".join(body.data for body in outcome.responses))


def judge_error(error: QuartetError) -> None:
    assert error.status in BLAMES_CLIENT, f"{error.status} {error.reason}: {error.message}"
    assert error.message
    assert not _INNARDS.search(error.message), error.message
    assert _REASON.fullmatch(error.reason), (
        f"{error.status} {error.message!r} has the reason {error.reason!r}"
    )
    if error.status == "INVALID_ARGUMENT" and error.reason not in WITHOUT_FIELD:
        assert error.field_violations, f"{error.reason} {error.message!r} names no field"


def judge_http(status: int, data: bytes) -> None:
    """The same for a dialect's answer: 200, or a client error whose body is the dialect's."""
    assert 200 <= status < 500, f"{status} {data[:500]!r}"
    assert data
    events = [line[6:] for line in data.split(b"\n") if line.startswith(b"data: ")]
    values = (
        [orjson.loads(event) for event in events if event != b"[DONE]"] if events else [orjson.loads(data)]
    )
    failures = [value["error"] for value in values if value.get("error")]
    assert len(failures) == (1 if status >= 400 else len(failures)) <= 1, data[:500]
    for failure in failures:
        told = failure["quartet"]
        assert failure["type"]
        assert failure["message"]
        assert not _INNARDS.search(failure["message"]), failure["message"]
        assert _REASON.fullmatch(told["reason"])
        assert told["reason"] not in ("INTERNAL", "UNKNOWN", "UNAVAILABLE"), failure["message"]
