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


async def test_savings_are_told_against_the_baseline(edge: Edge) -> None:
    result = await edge.run("savings")
    assert result.code == 0, result.err
    assert rows(result.out) == [
        ["route", "routed cost", "baseline", "saved"],
        ["some route", "$1.00", "$4.00", "$3.00 (75.0%)"],
        ["all", "$1.00", "$4.00", "$3.00 (75.0%)"],
    ]
    assert list(edge.usages[0].group_by) == ["route"]


async def test_policies_are_compared_in_a_table(edge: Edge) -> None:
    result = await edge.run("router", "compare", "--since", "7d")
    assert result.code == 0, result.err
    assert rows(result.out) == [
        ["route", "decisions", "disagree", "live, expected", "shadow, expected", "shadow saves"],
        ["complex", "1,000", "40.0%", "$8.00", "$2.00", "75.0%"],
    ]


async def test_an_answer_is_rated_by_its_trace(edge: Edge) -> None:
    result = await edge.run("rate", "0af7651916cd43dd8448eb211c80319c", "0.5", "--comment", "half right")
    assert (result.code, result.out.strip()) == (0, "noted")
    assert [(kept.score, kept.comment) for kept in edge.outcomes] == [(0.5, "half right")]


async def test_a_rating_beyond_one_is_wrong_usage(edge: Edge) -> None:
    result = await edge.run("rate", "0af7651916cd43dd8448eb211c80319c", "3")
    assert result.code == 2
    assert not edge.outcomes
