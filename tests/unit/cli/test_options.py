import pytest
import typer

from quartet.gateway.v1 import key_pb2
from services.cli.commands.options import QUOTAS, read_quotas


def test_the_quotas_are_the_contracts_limits_but_the_one_of_a_single_request() -> None:
    limits = [field.name for field in key_pb2.Limits.DESCRIPTOR.fields]
    assert sorted({*QUOTAS, "input_tokens_per_request"}) == sorted(limits)


def test_quotas_are_read_by_name() -> None:
    assert read_quotas(None) == {}
    assert read_quotas(["tokens_per_day=0", "concurrent_calls=7"]) == {
        "tokens_per_day": 0,
        "concurrent_calls": 7,
    }


@pytest.mark.parametrize("text", ["tokens=1", "tokens_per_day", "tokens_per_day=-1", "tokens_per_day=1e3"])
def test_what_is_no_quota_is_wrong_usage(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is no quota"):
        read_quotas([text])
