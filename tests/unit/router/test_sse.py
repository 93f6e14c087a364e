from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.adapters.sse import MAX_EVENT_BYTES, EventTooLongError, read_events

STREAM = (
    b': ping\r\n\r\nevent: x\r\ndata: {"a":1}\r\n\r\n'
    b"data: one\ndata: two\n\nid: 7\ndata:[DONE]\n\ndata: cut off"
)


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=8))
async def test_events_are_the_same_however_the_bytes_are_cut(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    parts = [STREAM[start:end] for start, end in pairwise(edges)]
    events = [event async for event in read_events(chunks(*parts))]
    assert events == [b'{"a":1}', b"one\ntwo", b"[DONE]"]


async def test_an_event_without_end_is_refused() -> None:
    with pytest.raises(EventTooLongError):
        [event async for event in read_events(chunks(b"data: ", b"x" * (MAX_EVENT_BYTES + 1)))]
