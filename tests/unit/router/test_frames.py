"""AWS's event stream: read however it is cut, refused where it is damaged."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.adapters.sdk.frames import FrameReader
from services.router.adapters.sse import FramingError
from tests.doubles.provider import frames

EVENTS = [
    b'{"type":"ping"}',
    b'{"type":"content_block_delta","text":"\xe2\x98\x83"}',
    b'{"type":"message_stop"}',
]
STREAM = b"".join(map(frames.chunk, EVENTS))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_events_are_the_same_however_the_bytes_are_cut(sizes: list[int]) -> None:
    reader, found, position = FrameReader(), list[bytes](), 0
    for number in range(len(STREAM)):
        size = sizes[number % len(sizes)]
        found += reader.feed(STREAM[position : position + size])
        position += size
    assert found == EVENTS


@given(st.integers(0, len(STREAM) - 1), st.integers(1, 255))
def test_a_damaged_byte_never_yields_another_event(place: int, change: int) -> None:
    damaged = bytearray(STREAM)
    damaged[place] ^= change
    reader, found = FrameReader(), list[bytes]()
    try:
        for start in range(0, len(damaged), 50):
            found += reader.feed(bytes(damaged[start : start + 50]))
    except FramingError:
        pass
    assert found == EVENTS[: len(found)]
    assert len(found) < len(EVENTS)


@pytest.mark.parametrize(
    ("exception", "kind"),
    [
        ("throttlingException", "rate_limit_error"),
        ("validationException", "invalid_request_error"),
        ("modelTimeoutException", "timeout_error"),
        ("serviceUnavailableException", "overloaded_error"),
        ("internalServerException", "api_error"),
        ("modelStreamErrorException", "api_error"),
    ],
)
def test_an_exception_is_told_in_anthropic_s_words(exception: str, kind: str) -> None:
    (event,) = FrameReader().feed(frames.exception(exception, "so it is"))
    assert orjson.loads(event) == {"type": "error", "error": {"type": kind, "message": "so it is"}}


def test_an_error_without_a_type_has_its_code_and_message_in_the_headers() -> None:
    headers = {":message-type": "error", ":error-code": "InternalError", ":error-message": "so it is"}
    (event,) = FrameReader().feed(frames.encode(headers, b""))
    assert orjson.loads(event)["error"] == {"type": "api_error", "message": "so it is"}


@pytest.mark.parametrize(
    "payload", [b"", b"{}", b"[1]", b'{"bytes": 1}', b'{"bytes": "?"}', b'{"bytes": "YQ"}']
)
def test_a_frame_without_an_event_is_refused(payload: bytes) -> None:
    with pytest.raises(FramingError, match="holds no event"):
        FrameReader().feed(frames.encode({":message-type": "event", ":event-type": "chunk"}, payload))


@pytest.mark.parametrize("payload", [b"", b"[1]", b"no json"])
def test_an_exception_that_cannot_be_read_is_refused(payload: bytes) -> None:
    headers = {":message-type": "exception", ":exception-type": "throttlingException"}
    with pytest.raises(FramingError):
        FrameReader().feed(frames.encode(headers, payload))


def test_what_is_no_event_stream_is_refused() -> None:
    with pytest.raises(FramingError, match="no event stream"):
        FrameReader().feed(b"data: {}\n\ndata: {}\n\n")
