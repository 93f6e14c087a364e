import time

import pytest

from services.kit.call import Call, header_text
from services.kit.errors import DeadlineExceeded


def test_a_child_has_no_more_time_than_its_parent() -> None:
    call = Call.root(timeout_s=1)
    assert call.outgoing(timeout_s=5).deadline == call.deadline
    assert call.outgoing().deadline == call.deadline


def test_a_child_may_have_less_time() -> None:
    child = Call.root(timeout_s=100).outgoing(timeout_s=1)
    assert 0.9 < child.remaining_s() <= 1


def test_a_timeout_of_zero_leaves_no_time() -> None:
    with pytest.raises(DeadlineExceeded):
        Call.root(timeout_s=5).outgoing(timeout_s=0).remaining_s()


def test_a_child_carries_the_caller_and_not_the_metadata() -> None:
    call = Call.root(timeout_s=1, tenant="acme", key_id="qk_1", metadata={"authorization": "Bearer x"})
    child = call.outgoing(metadata={"x-a": "b"})
    assert (child.tenant, child.key_id, child.metadata) == ("acme", "qk_1", {"x-a": "b"})


def test_a_child_has_response_headers_of_its_own() -> None:
    call = Call.root(timeout_s=1)
    call.outgoing().response_headers["x-a"] = "b"
    assert call.response_headers == {}


def test_an_identified_call_answers_with_the_same_headers() -> None:
    call = Call(deadline=time.monotonic() + 1)
    known = call.identified(tenant="acme", key_id="qk_1")
    known.response_headers["x-a"] = "b"
    assert (known.tenant, known.key_id, call.response_headers) == ("acme", "qk_1", {"x-a": "b"})


@pytest.mark.parametrize(
    ("value", "text"),
    [("plain text", "plain text"), ("ä", "%C3%A4"), ("a\r\nb: c", "a%0D%0Ab%3A c"), ("", "")],
)
def test_a_header_holds_printable_ascii_only(value: str, text: str) -> None:
    assert header_text(value) == text
