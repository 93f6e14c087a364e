"""The time for which a comparison of policies is asked."""

from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

from quartet.router.v1.router_pb2 import ComparePoliciesRequest
from services.kit.errors import InvalidArgument

DEFAULT_SPAN = timedelta(days=30)


def read_period(request: ComparePoliciesRequest, now: datetime) -> tuple[datetime, datetime]:
    """From when until when; the last 30 days where the request leaves it open.

    Raises InvalidArgument for a time that no calendar has, and for an end that is not after the start.
    """
    end = _read("end_time", request.end_time) if request.HasField("end_time") else now
    start = _read("start_time", request.start_time) if request.HasField("start_time") else end - DEFAULT_SPAN
    if start >= end:
        raise InvalidArgument.field("start_time", "must be before end_time, which is now when it is absent")
    return start, end


def _read(field: str, time: Timestamp) -> datetime:
    try:
        return time.ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise InvalidArgument.field(field, "must be from year 1 to 9999") from None
