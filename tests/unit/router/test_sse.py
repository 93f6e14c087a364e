from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.adapters.sse import MAX_EVENT_BYTES, EventReader, FramingError

STREAM = (
    b': ping\r\n\r\nevent: x\r\ndata: {"a":1}\r\n\r\n'
    b"data: one\ndata: two\n\nid: 7\ndata:[DONE]\n\ndata: cut off"
)


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_events_are_the_same_however_the_bytes_are_cut(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    reader = EventReader()
    events = [event for start, end in pairwise(edges) for event in reader.feed(STREAM[start:end])]
    assert events == [b'{"a":1}', b"one\ntwo", b"[DONE]"]


@pytest.mark.parametrize("filler", [b"x", b"\ndata: x"], ids=["a line", "many lines"])
def test_an_event_without_end_is_refused(filler: bytes) -> None:
    reader = EventReader()

    def read() -> None:
        for _ in range(2 + MAX_EVENT_BYTES // len(filler)):
            reader.feed(filler)

    filler *= 100_000
    reader.feed(b"data: ")
    with pytest.raises(FramingError, match="no end"):
        read()
