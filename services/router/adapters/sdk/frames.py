"""Reads the frames in which Amazon Bedrock streams Anthropic's events."""

import base64

import orjson
from botocore.eventstream import EventStreamBuffer, EventStreamMessage, ParserError

from services.router.adapters.sse import FramingError
from services.router.adapters.transport import Framing

_ERROR_OF_EXCEPTION = {
    "validationException": "invalid_request_error",
    "throttlingException": "rate_limit_error",
    "modelTimeoutException": "timeout_error",
    "serviceUnavailableException": "overloaded_error",
}
"""Anthropic's words for AWS's; all others are the provider's own faults."""


class FrameReader:
    """Takes Anthropic's events out of `application/vnd.amazon.eventstream`; checksums are verified.

    An exception in the stream becomes the event in which Anthropic itself tells of an error.
    """

    def __init__(self) -> None:
        self._buffer = EventStreamBuffer()

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of each event that is complete now; raises FramingError."""
        self._buffer.add_data(chunk)
        try:
            return [_read(frame) for frame in self._buffer]
        except ParserError as error:
            raise FramingError(f"it is no event stream of AWS: {error}") from None
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise FramingError(f"a frame holds no event: {error!r}") from None


def _read(frame: EventStreamMessage) -> bytes:
    kind = frame.headers.get(":message-type")
    if kind == "event":
        return base64.b64decode(orjson.loads(frame.payload)["bytes"], validate=True)
    if kind == "exception":
        name, message = frame.headers[":exception-type"], orjson.loads(frame.payload).get("message")
    else:
        name, message = frame.headers.get(":error-code"), frame.headers.get(":error-message")
    error = {"type": _ERROR_OF_EXCEPTION.get(name, "api_error"), "message": message or name}
    return orjson.dumps({"type": "error", "error": error})


AWS_EVENT_STREAM = Framing(media_type="application/vnd.amazon.eventstream", reader=FrameReader)
