import pytest
from hypothesis import given
from hypothesis import strategies as st

from quartet.common.v1 import decision_pb2
from quartet.gateway.v1 import gateway_pb2
from services.gateway.domain.targets import AUTO, Kind, Target, parse_target, read_target
from services.kit.errors import InvalidArgument


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("auto", AUTO),
        ("gpt-6-luna", Target(kind=Kind.MODEL, name="gpt-6-luna")),
        ("local/extractive", Target(kind=Kind.MODEL, name="local/extractive")),
        ("a/b/c", Target(kind=Kind.MODEL, name="a/b/c")),
        ("route/technical", Target(kind=Kind.ROUTE, name="technical")),
        ("rag/docs", Target(kind=Kind.PIPELINE, name="rag_answer", collection="docs")),
        ("pipeline/summary", Target(kind=Kind.PIPELINE, name="summary", collection="default")),
        ("agent", Target(kind=Kind.AGENT, collection="default")),
        ("agent/docs", Target(kind=Kind.AGENT, collection="docs")),
    ],
)
def test_names_lead_to_handlers(name: str, target: Target) -> None:
    assert parse_target(name) == target


NOWHERE = [
    "",
    "x" * 257,
    "rag/",
    "rag/Docs",
    "rag/a/b",
    "rag/" + "a" * 129,
    "agent/..",
    "agent/ ",
    "route/",
    "pipeline/",
]


@pytest.mark.parametrize("name", NOWHERE)
def test_a_name_that_leads_nowhere_is_refused_at_the_model_field(name: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_target(name)
    assert caught.value.field_violations[0].field == "model"


@given(st.text())
def test_any_text_is_a_target_or_a_typed_refusal(name: str) -> None:
    try:
        target = parse_target(name)
    except InvalidArgument:
        return
    assert target.is_routed or target.collection


def test_the_native_form_says_the_same() -> None:
    pipeline = decision_pb2.PipelineTarget(name="rag_answer", collection="docs")
    assert read_target(gateway_pb2.Target(pipeline=pipeline)) == parse_target("rag/docs")
    assert read_target(gateway_pb2.Target(agent=decision_pb2.AgentTarget())) == parse_target("agent")
    assert read_target(gateway_pb2.Target(route="technical")) == parse_target("route/technical")
    assert read_target(gateway_pb2.Target()) == AUTO
