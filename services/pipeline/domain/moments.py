from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp


def timestamp(moment: datetime) -> Timestamp:
    """A moment with a time zone, as messages carry it."""
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp
