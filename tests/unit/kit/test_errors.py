import pickle

import pytest
from google.rpc import error_details_pb2  # type: ignore[import-untyped]

from services.kit.errors import (
    BY_CODE,
    InvalidArgument,
    NotFound,
    QuartetError,
    ResourceExhausted,
    from_proto,
    from_status,
)


def a_full_error() -> ResourceExhausted:
    return ResourceExhausted(
        "used up",
        reason="QUOTA_EXCEEDED",
        metadata={"limit": "5"},
        field_violations=[("a.b", "too large")],
        quota_violations=[("key:qk_1/requests", "5 of 5")],
        retry_after_s=1.25,
    )


def test_an_error_survives_the_message_of_a_stream() -> None:
    error = a_full_error()
    restored = from_proto(error.to_proto())
    assert (type(restored), vars(restored)) == (ResourceExhausted, vars(error))


def test_an_error_survives_a_status() -> None:
    error = a_full_error()
    restored = from_status(error.code, error.message, error.to_status().SerializeToString())
    assert (type(restored), vars(restored)) == (ResourceExhausted, vars(error))


def test_an_error_survives_pickling() -> None:
    error = a_full_error()
    restored = pickle.loads(pickle.dumps(error))
    assert (type(restored), vars(restored)) == (ResourceExhausted, vars(error))


def test_a_status_carries_the_details_that_other_languages_read() -> None:
    details = a_full_error().to_status().details
    assert [detail.TypeName() for detail in details] == [
        "google.rpc.ErrorInfo",
        "google.rpc.BadRequest",
        "google.rpc.QuotaFailure",
        "google.rpc.RetryInfo",
    ]
    info = error_details_pb2.ErrorInfo()
    details[0].Unpack(info)
    assert (info.reason, info.domain, dict(info.metadata)) == ("QUOTA_EXCEEDED", "quartet", {"limit": "5"})


def test_a_status_without_details_keeps_code_and_message() -> None:
    error = from_status(5, "nothing there")
    assert (type(error), str(error), error.reason) == (NotFound, "nothing there", "NOT_FOUND")


def test_a_status_with_details_of_strangers_is_read_as_far_as_it_goes() -> None:
    status = NotFound("gone", reason="GONE").to_status()
    status.details.add(type_url="type.googleapis.com/google.rpc.Help", value=b"")
    assert from_status(5, "gone", status.SerializeToString()).reason == "GONE"


def test_details_that_are_no_status_do_not_hide_the_error() -> None:
    error = from_status(5, "gone", b"\xff\xff not a status")
    assert (type(error), str(error)) == (NotFound, "gone")


def test_an_unknown_code_is_the_root_of_the_tree() -> None:
    assert type(from_status(99, "?")) is QuartetError


def test_retry_now_is_not_do_not_retry() -> None:
    assert from_proto(NotFound("x", retry_after_s=0).to_proto()).retry_after_s == 0
    assert from_proto(NotFound("x").to_proto()).retry_after_s is None


def test_a_field_error_names_its_field_in_message_and_details() -> None:
    error = InvalidArgument.field("model", "unknown: see ListModels")
    assert str(error) == "model: unknown: see ListModels"
    assert [tuple(violation) for violation in error.field_violations] == [
        ("model", "unknown: see ListModels")
    ]


@pytest.mark.parametrize("code", [code for code in range(1, 17) if code != 2])
def test_every_status_has_its_class(code: int) -> None:
    assert BY_CODE[code].code == code
