import pytest

from quartet.common.v1 import message_pb2
from quartet.router.v1 import router_pb2
from services.kit.errors import InvalidArgument
from services.kit.validation import MAX_VIOLATIONS, validate


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
