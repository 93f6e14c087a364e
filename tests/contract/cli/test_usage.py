import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.contract.cli.edge import Edge
from tests.contract.cli.test_looking import rows


async def test_usage_is_a_table_with_all_of_it_below(edge: Edge) -> None:
    result = await edge.run("usage", "--by", "model,day")
    assert result.code == 0, result.err
    assert rows(result.out) == [
        ["model", "day", "calls", "tokens in", "of them cached", "tokens out", "cost"],
        ["some model", "some day", "1,200", "3,000,000", "7", "500", "$1.500001"],
        ["(none)", "(none)", "3", "30", "0", "0", "$0.00"],
        ["all", "1,203", "3,000,030", "7", "500", "$1.500001"],
    ]


async def test_usage_as_json_keeps_the_contracts_names(edge: Edge) -> None:
    result = await edge.run("usage", "--json")
    assert json.loads(result.out)["rows"][0]["cost_micro_usd"] == 1_500_001
    assert list(edge.usages[0].group_by) == ["model"]
    assert not edge.usages[0].HasField("start_time")


async def test_usage_since_a_date_or_a_span(edge: Edge) -> None:
    await edge.run("usage", "--since", "2026-11-01")
    await edge.run("usage", "--since", "7d")
    first, second = (request.start_time.ToDatetime(UTC) for request in edge.usages)
    assert first == datetime(2026, 11, 1, tzinfo=UTC)
    assert abs(datetime.now(UTC) - timedelta(days=7) - second) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("option", "value", "said"), [("--by", "colour", "is none of"), ("--since", "soon", "is no time")]
)
async def test_usage_refuses_what_it_does_not_know(edge: Edge, option: str, value: str, said: str) -> None:
    result = await edge.run("usage", option, value)
    assert result.code == 2
    assert said in " ".join(result.err.replace("│", " ").split())
    assert not edge.usages
