"""The one tree of errors: a service raises them, kit carries them over, a client raises them again."""

# ruff: noqa: N818 - the names are those of the gRPC statuses

import math
from collections.abc import Iterable, Mapping
from typing import ClassVar, NamedTuple, Self

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from quartet.common.v1 import error_pb2

DOMAIN = "quartet"
"""The `domain` of every ErrorInfo: reasons are unique within it."""


MAX_STATUS_CHARS = 600
"""Of a message in a status: it travels in headers, twice, and peers bound them to 8 KiB."""


class FieldViolation(NamedTuple):
    """A field of the request at fault, by its path such as `messages[0].parts`."""

    field: str
    description: str


class QuotaViolation(NamedTuple):
    """A quota that is used up, by its subject such as `key:qk_ab12/tokens_per_minute`."""

    subject: str
    description: str


class QuartetError(Exception):
    """An error that a caller is meant to see; raise one of its subclasses.

    Args:
        message: What is wrong and what to do next, for a person; no secrets, no prompts.
        reason: A word that programs compare, UPPER_SNAKE; by default the name of the status.
        metadata: Facts about it, such as `limit` and `count`.
        field_violations: Which fields of the request are at fault.
        quota_violations: Which quotas are used up.
        retry_after_s: When to try again; None means do not.
    """

    code: ClassVar[int] = 2
    status: ClassVar[str] = "UNKNOWN"

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        field_violations: Iterable[tuple[str, str]] = (),
        quota_violations: Iterable[tuple[str, str]] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.status
        self.metadata = dict(metadata or {})
        self.field_violations = tuple(FieldViolation(*violation) for violation in field_violations)
        self.quota_violations = tuple(QuotaViolation(*violation) for violation in quota_violations)
        self.retry_after_s = retry_after_s

    @classmethod
    def field(cls, field: str, description: str, *, reason: str = "") -> Self:
        """An error about one field of the request."""
        return cls(f"{field}: {description}", reason=reason, field_violations=[(field, description)])

    @property
    def retry_after(self) -> str | None:
        """`retry_after_s` as HTTP's header of that name has it: whole seconds, at least one."""
        return None if self.retry_after_s is None else str(max(1, math.ceil(self.retry_after_s)))

    def to_proto(self) -> error_pb2.Error:
        """The message with which a stream ends."""
        return error_pb2.Error(
            code=self.code,
            reason=self.reason,
            message=self.message,
            metadata=self.metadata,
            field_violations=[
                error_pb2.FieldViolation(field=field, description=description)
                for field, description in self.field_violations
            ],
            quota_violations=[
                error_pb2.QuotaViolation(subject=subject, description=description)
                for subject, description in self.quota_violations
            ],
            retry_after=None if self.retry_after_s is None else _duration(self.retry_after_s),
        )

    def to_status(self) -> status_pb2.Status:
        """The google.rpc.Status whose bytes travel as `grpc-status-details-bin`."""
        status = status_pb2.Status(code=self.code, message=self.message[:MAX_STATUS_CHARS])
        info = error_details_pb2.ErrorInfo(reason=self.reason, domain=DOMAIN, metadata=self.metadata)
        status.details.add().Pack(info)
        if self.field_violations:
            request = error_details_pb2.BadRequest()
            for field, description in self.field_violations:
                request.field_violations.add(field=field, description=description)
            status.details.add().Pack(request)
        if self.quota_violations:
            failure = error_details_pb2.QuotaFailure()
            for subject, description in self.quota_violations:
                failure.violations.add(subject=subject, description=description)
            status.details.add().Pack(failure)
        if self.retry_after_s is not None:
            retry = error_details_pb2.RetryInfo(retry_delay=_duration(self.retry_after_s))
            status.details.add().Pack(retry)
        return status


class Cancelled(QuartetError):
    """The peer gave the call up. A caller that goes away itself sees `asyncio.CancelledError` instead."""

    code, status = 1, "CANCELLED"


class InvalidArgument(QuartetError):
    """The request is wrong in itself."""

    code, status = 3, "INVALID_ARGUMENT"


class DeadlineExceeded(QuartetError):
    """The time given to the call is used up."""

    code, status = 4, "DEADLINE_EXCEEDED"


class NotFound(QuartetError):
    """What the request names does not exist, or not for this caller."""

    code, status = 5, "NOT_FOUND"


class AlreadyExists(QuartetError):
    """What the request would make is there already."""

    code, status = 6, "ALREADY_EXISTS"


class PermissionDenied(QuartetError):
    """The caller is known, and may not."""

    code, status = 7, "PERMISSION_DENIED"


class ResourceExhausted(QuartetError):
    """A quota, a budget or a bound is used up."""

    code, status = 8, "RESOURCE_EXHAUSTED"


class FailedPrecondition(QuartetError):
    """The request is right, and something must be set up or changed before it can be served."""

    code, status = 9, "FAILED_PRECONDITION"


class Aborted(QuartetError):
    """Something else changed the same thing meanwhile."""

    code, status = 10, "ABORTED"


class OutOfRange(QuartetError):
    """The request asks beyond the end of something."""

    code, status = 11, "OUT_OF_RANGE"


class Unimplemented(QuartetError):
    """This server does not offer the method."""

    code, status = 12, "UNIMPLEMENTED"


class Internal(QuartetError):
    """A fault of this suite; its metadata `id` is in the log beside the stack."""

    code, status = 13, "INTERNAL"


class Unavailable(QuartetError):
    """A peer cannot be reached or refuses work at present."""

    code, status = 14, "UNAVAILABLE"


class DataLoss(QuartetError):
    """Stored data cannot be read any more; none of our services raises it, but a peer may."""

    code, status = 15, "DATA_LOSS"


class Unauthenticated(QuartetError):
    """The caller gave no valid credential."""

    code, status = 16, "UNAUTHENTICATED"


BY_CODE: Mapping[int, type[QuartetError]] = {kind.code: kind for kind in QuartetError.__subclasses__()}


def from_proto(error: error_pb2.Error) -> QuartetError:
    """The error that a stream's last message stands for."""
    return BY_CODE.get(error.code, QuartetError)(
        error.message,
        reason=error.reason,
        metadata=error.metadata,
        field_violations=[(violation.field, violation.description) for violation in error.field_violations],
        quota_violations=[(violation.subject, violation.description) for violation in error.quota_violations],
        retry_after_s=_seconds(error.retry_after) if error.HasField("retry_after") else None,
    )


def from_status(code: int, message: str, details: bytes = b"") -> QuartetError:
    """The error that a gRPC status stands for; `details` is a serialised google.rpc.Status or empty."""
    info = error_details_pb2.ErrorInfo()
    request = error_details_pb2.BadRequest()
    failure = error_details_pb2.QuotaFailure()
    retry = error_details_pb2.RetryInfo()
    retry_after_s = None
    try:
        status = status_pb2.Status.FromString(details)
    except DecodeError:
        status = status_pb2.Status()
    for detail in status.details:
        if detail.Unpack(retry):
            retry_after_s = _seconds(retry.retry_delay)
        else:
            detail.Unpack(info) or detail.Unpack(request) or detail.Unpack(failure)
    return BY_CODE.get(code, QuartetError)(
        message,
        reason=info.reason,
        metadata=info.metadata,
        field_violations=[(violation.field, violation.description) for violation in request.field_violations],
        quota_violations=[(violation.subject, violation.description) for violation in failure.violations],
        retry_after_s=retry_after_s,
    )


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromMilliseconds(max(0, round(seconds * 1000)))
    return duration


def _seconds(duration: Duration) -> float:
    return duration.ToMilliseconds() / 1000
