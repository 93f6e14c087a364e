from datetime import UTC, datetime

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from quartet.gateway.v1.key_pb2 import GetUsageRequest
from services.gateway.domain.usage_order import read_period
from services.kit.errors import InvalidArgument

NOW = datetime(2026, 11, 24, 8, 30, tzinfo=UTC)


def test_without_times_it_is_the_month_so_far() -> None:
    assert read_period(GetUsageRequest(), NOW) == (datetime(2026, 11, 1, tzinfo=UTC), NOW)


def test_named_times_are_kept() -> None:
    start, end = datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 2, 1, tzinfo=UTC)
    request = GetUsageRequest()
    request.start_time.FromDatetime(start)
    request.end_time.FromDatetime(end)
    assert read_period(request, NOW) == (start, end)


@pytest.mark.parametrize("seconds", [int(NOW.timestamp()), 2**62, -(2**62)])
def test_a_start_that_is_not_before_the_end_or_in_no_calendar_is_refused(seconds: int) -> None:
    with pytest.raises(InvalidArgument) as caught:
        read_period(GetUsageRequest(start_time=Timestamp(seconds=seconds)), NOW)
    assert caught.value.field_violations[0].field == "start_time"
