import pytest
from google.protobuf.duration_pb2 import Duration

from quartet.common.v1 import decision_pb2, document_pb2, error_pb2, message_pb2
from services.cli.render import plain, printable, usd


@pytest.mark.parametrize(
    ("micro_usd", "text"),
    [
        (0, "$0.00"),
        (1, "$0.000001"),
        (70, "$0.00007"),
        (250_000, "$0.25"),
        (1_000_000, "$1.00"),
        (1_500_000, "$1.50"),
        (1_234_567_890_123, "$1,234,567.890123"),
        (2**64 - 1, "$18,446,744,073,709.551615"),
    ],
)
def test_money_is_exact(micro_usd: int, text: str) -> None:
    assert usd(micro_usd) == text


def test_control_characters_are_left_out_and_lines_stay() -> None:
    assert printable("a\x1b[31mb\r\n\tc\x9b0md\x00\x7fé") == "a[31mb\n\tc0mdé"


def test_large_numbers_stay_numbers() -> None:
    candidate = decision_pb2.Candidate(model="m", estimated_cost_micro_usd=2**60)
    assert plain(candidate) == {
        "model": "m",
        "provider": "",
        "estimated_cost_micro_usd": 2**60,
        "chosen": False,
        "rejected_because": "",
    }


def test_absent_messages_are_absent_and_enums_have_their_names() -> None:
    job = document_pb2.IngestJob(id="j", state=document_pb2.INGEST_STATE_RUNNING)
    job.create_time.FromJsonString("2026-01-02T03:04:05Z")
    as_json = plain(job)
    assert as_json["state"] == "INGEST_STATE_RUNNING"
    assert as_json["create_time"] == "2026-01-02T03:04:05Z"
    assert "end_time" not in as_json


def test_maps_durations_bytes_and_lists_have_a_form() -> None:
    error = error_pb2.Error(metadata={"limit": "5"}, retry_after=Duration(seconds=1, nanos=500_000_000))
    error.field_violations.add(field="model", description="unknown")
    as_json = plain(error)
    assert as_json["metadata"] == {"limit": "5"}
    assert as_json["retry_after"] == 1.5
    assert as_json["field_violations"] == [{"field": "model", "description": "unknown"}]
    media = message_pb2.Media(data=b"\x00\xff")
    assert plain(media)["data"] == "AP8="
