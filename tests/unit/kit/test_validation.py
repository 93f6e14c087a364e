import pytest

from quartet.common.v1 import message_pb2
from quartet.router.v1 import router_pb2
from services.kit.errors import InvalidArgument
from services.kit.validation import MAX_ELEMENTS, MAX_VIOLATIONS, validate


def test_a_valid_request_passes() -> None:
    request = router_pb2.RouteRequest()
    request.prompt.messages.add(role=message_pb2.ROLE_USER).parts.add(text="hello")
    validate(request)


def test_every_field_at_fault_is_named_by_its_path() -> None:
    request = router_pb2.RouteRequest()
    request.prompt.messages.add(role=message_pb2.ROLE_USER).parts.add(text="hello")
    request.prompt.messages.add(role=message_pb2.ROLE_USER)
    request.prompt.target.model = "x" * 257
    with pytest.raises(InvalidArgument) as caught:
        validate(request)
    fields = {violation.field: violation.description for violation in caught.value.field_violations}
    assert set(fields) == {"prompt.messages[1].parts", "prompt.target.model"}
    assert "256" in fields["prompt.target.model"]
    assert "prompt.target.model" in caught.value.message


def test_violations_are_bounded_so_that_they_fit_into_headers() -> None:
    request = router_pb2.RouteRequest()
    for _ in range(1000):
        request.prompt.messages.add(role=message_pb2.ROLE_USER)
    with pytest.raises(InvalidArgument) as caught:
        validate(request)
    assert len(caught.value.field_violations) == MAX_VIOLATIONS
    assert len(caught.value.to_status().SerializeToString()) < 8192


def test_a_request_of_too_many_pieces_is_refused_before_they_are_looked_at() -> None:
    request = router_pb2.RouteRequest()
    turn = request.prompt.messages.add(role=message_pb2.ROLE_USER)
    for _ in range(MAX_ELEMENTS):
        turn.parts.add()
    with pytest.raises(InvalidArgument) as caught:
        validate(request)
    assert caught.value.reason == "TOO_MANY_ELEMENTS"
    assert [violation.field for violation in caught.value.field_violations] == ["prompt.messages.parts"]


def test_long_texts_are_not_many_pieces() -> None:
    request = router_pb2.RouteRequest()
    request.prompt.messages.add(role=message_pb2.ROLE_USER).parts.add(text="x" * 10 * MAX_ELEMENTS)
    validate(request)
