"""What speaks against a cheap answer, by what can be seen of it."""

import time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quartet.common.v1 import generation_pb2 as generation
from quartet.common.v1.message_pb2 import ROLE_ASSISTANT, Message, Part, ToolCall
from services.router.domain.checking import Cascade, object_to

STOP = generation.FINISH_REASON_STOP
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["name", "tags"],
    "properties": {
        "name": {"type": "string"},
        "age": {"type": ["integer", "null"]},
        "kind": {"enum": ["cat", "dog"]},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
}


def judge(
    *parts: Part,
    finish: generation.FinishReason.ValueType = STOP,
    form: generation.ResponseFormat | None = None,
    cascade: Cascade | None = None,
) -> str:
    message = Message(role=ROLE_ASSISTANT, parts=parts)
    completion = generation.Completion(message=message, finish_reason=finish)
    spec = generation.GenerationSpec(response_format=form)
    return object_to(completion, message, spec, cascade or Cascade())


def of_schema(schema: Any) -> generation.ResponseFormat:
    return generation.ResponseFormat(
        kind=generation.ResponseFormat.KIND_JSON_SCHEMA, schema_json=orjson.dumps(schema).decode()
    )


@pytest.mark.parametrize(
    ("text", "objection"),
    [
        ("Paris.", ""),
        ("  \n", "it is empty"),
        ("I\u2019m not sure, but perhaps Paris.", 'it says "i\'m not sure"'),
        ("As an AI, I have no opinion.", "it says 'as an ai'"),
    ],
)
def test_an_answer_says_something_and_means_it(text: str, objection: str) -> None:
    assert judge(Part(text=text)) == objection


def test_a_route_may_list_its_own_words_or_none() -> None:
    part = Part(text="I don't know, ask a lawyer.")
    assert judge(part, cascade=Cascade(hedges=())) == ""
    assert "lawyer" in judge(part, cascade=Cascade(hedges=("ask a lawyer",)))


@pytest.mark.parametrize("finish", [generation.FINISH_REASON_LENGTH, generation.FINISH_REASON_REFUSAL])
def test_an_answer_that_was_cut_or_declined_will_not_do(finish: generation.FinishReason.ValueType) -> None:
    assert judge(Part(text="Paris."), finish=finish).startswith("it ended by")
    assert judge(Part(refusal="No.")) == "it declines"


def test_a_tool_call_is_an_answer_if_its_arguments_can_be_read() -> None:
    finish = generation.FINISH_REASON_TOOL_CALLS
    good = Part(tool_call=ToolCall(id="1", name="f", arguments_json='{"a":1}'))
    assert judge(good, finish=finish) == ""
    bad = Part(tool_call=ToolCall(id="1", name="f", arguments_json='{"a":'))
    assert "no JSON" in judge(bad, finish=finish)


@pytest.mark.parametrize(
    ("value", "objection"),
    [
        ({"name": "Tom", "tags": ["a"], "age": None, "kind": "cat"}, ""),
        ({"name": "Tom", "tags": [], "age": 3.0, "more": 1}, ""),
        ({"name": "Tom"}, "has no tags"),
        ({"name": 1, "tags": []}, "/name is no string"),
        ({"name": "Tom", "tags": ["a", 2]}, "/tags/1 is no string"),
        ({"name": "Tom", "tags": [], "age": True}, "/age is no integer or null"),
        ({"name": "Tom", "tags": [], "kind": "cow"}, "/kind is none of its values"),
        ([], "the answer is no object"),
    ],
)
def test_json_that_was_asked_for_fits_its_schema(value: Any, objection: str) -> None:
    said = judge(Part(text=orjson.dumps(value).decode()), form=of_schema(SCHEMA))
    assert objection in said
    assert bool(said) is bool(objection)


def test_json_that_was_asked_for_is_json() -> None:
    form = generation.ResponseFormat(kind=generation.ResponseFormat.KIND_JSON_OBJECT)
    assert judge(Part(text='{"a": 1}'), form=form) == ""
    assert judge(Part(text="[1]"), form=form) == "it is no JSON object"
    assert judge(Part(text="Sure! {}"), form=form) == "it is no JSON"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(value=JSON, schema=JSON)
def test_no_schema_however_strange_is_more_than_an_opinion(value: Any, schema: Any) -> None:
    assert isinstance(judge(Part(text=orjson.dumps(value).decode()), form=of_schema(schema)), str)


def test_a_pattern_of_the_callers_is_not_run() -> None:
    schema = {"type": "string", "pattern": "^(a+)+$"}
    begun = time.thread_time()
    assert judge(Part(text=orjson.dumps("a" * 60 + "!").decode()), form=of_schema(schema)) == ""
    assert time.thread_time() - begun < 1
