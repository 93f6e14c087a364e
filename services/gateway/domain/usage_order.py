"""The time for which usage is asked, read from requests."""

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from quartet.gateway.v1 import key_pb2
from services.kit.errors import InvalidArgument


def read_period(request: key_pb2.GetUsageRequest, now: datetime) -> tuple[datetime, datetime]:
    """From when until when; this month so far (UTC) where the request leaves it open.

    Raises InvalidArgument for a time that no calendar has, and for an end that is not after the start.
    """
    start = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    end = now
    if request.HasField("start_time"):
        start = _read_time("start_time", request.start_time)
    if request.HasField("end_time"):
        end = _read_time("end_time", request.end_time)
    if start >= end:
        raise InvalidArgument.field(
            "start_time", "must be before end_time, which is now when it is absent", reason=_REASON
        )
    return start, end


_REASON = "INVALID_REQUEST"


def _read_time(field: str, time: Timestamp) -> datetime:
    try:
        return time.ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise InvalidArgument.field(field, "must be from year 1 to 9999", reason=_REASON) from None
