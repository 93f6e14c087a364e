import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quartet.common.v1 import generation_pb2
from services.gateway.domain.tokens.counting import counting_of
from services.gateway.domain.tokens.documents import MAX_PAGES, count_pages
from services.gateway.domain.tokens.pictures import Size
from services.gateway.domain.tokens.tools import FunctionSignatures

MODELS = ["gpt-4o", "gpt-4.1-mini", "gpt-5", "gpt-5.4", "gpt-5.6-sol", "gpt-6-luna", "o3", "o4-mini"]
MODELS += ["claude-haiku-4-5", "claude-opus-5-5", "someone/else", ""]
DETAILS = ["", "low", "high", "auto", "original", "nonsense"]
SIDES = st.integers(1, 2**32 - 1)
FREE = generation_pb2.ToolChoice.MODE_UNSPECIFIED
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["properties", "type", "enum", "items", "description", "anyOf", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.sampled_from(MODELS), st.sampled_from(DETAILS), SIDES, SIDES)
def test_no_picture_costs_more_than_one_whose_size_is_not_known(
    model: str, detail: str, width: int, height: int
) -> None:
    images = counting_of(model).images
    tokens = images.tokens(Size(width, height), detail)
    assert 0 < tokens <= images.tokens(None, detail)
    assert tokens == images.tokens(Size(height, width), detail)


@given(st.sampled_from(MODELS), st.integers(1, 3000), st.integers(1, 3000))
def test_a_picture_twice_as_large_costs_no_less_but_for_rounding(model: str, width: int, height: int) -> None:
    images = counting_of(model).images
    small = images.tokens(Size(width, height), "high")
    assert images.tokens(Size(2 * width, 2 * height), "high") >= small * 0.9


@given(st.integers(1, 700), st.sampled_from([b"/Type /Page", b"/Type/Page"]), st.binary(max_size=50))
def test_pages_are_counted_and_not_the_nodes_of_their_tree(pages: int, word: bytes, filler: bytes) -> None:
    filler = filler.replace(b"/", b"")
    data = b"%PDF-1.4 " + word + b"s>>" + (word + b">>" + filler) * pages
    assert count_pages(data) == min(pages, MAX_PAGES)


def test_pages_that_are_compressed_are_estimated_by_the_bytes() -> None:
    assert count_pages(b"%PDF-1.7" + b"x" * 480_000) == 10
    assert count_pages(b"%PDF-1.7 /Type/Page>> /ObjStm" + b"x" * 480_000) == 10
    assert count_pages(b"%PDF") == 1


def test_of_a_very_large_file_a_part_stands_for_the_whole() -> None:
    page = b"/Type /Page>>" + b"x" * 100_000
    assert count_pages(page * 300) == pytest.approx(300, rel=0.02)


@given(st.text(max_size=30) | JSON.map(json.dumps))
def test_any_schema_is_measured(schema: str) -> None:
    tool = generation_pb2.Tool(name="f", input_schema_json=schema)
    offer = FunctionSignatures(function=7).measure([tool], FREE)
    assert offer.tokens >= 12
    assert offer.texts


def test_nesting_costs_as_the_same_properties_side_by_side() -> None:
    inner = {"properties": {"b": {"type": "string", "description": "B."}}}
    nested = {"properties": {"a": {"type": "object", **inner}}}
    offer = FunctionSignatures(function=7).measure(
        [generation_pb2.Tool(name="f", description="F.", input_schema_json=json.dumps(nested))], FREE
    )
    assert [text for text in offer.texts if text] == ["f:F", "a:object:", "b:string:B"]
    assert offer.tokens == 7 + 2 * (3 + 3) + 12


def test_a_schema_that_is_nested_without_end_is_measured_all_the_same() -> None:
    deep = '{"properties":{"a":' * 200 + "{}" + "}}" * 200
    offer = FunctionSignatures(function=7).measure(
        [generation_pb2.Tool(name="f", input_schema_json=deep)], FREE
    )
    assert sum(map(len, offer.texts)) > len(deep) * 0.8


def test_what_signatures_do_not_show_counts_as_its_text() -> None:
    schema = {"properties": {"a": {"anyOf": [{"type": "string"}, {"type": "null"}]}}, "$defs": {"x": {}}}
    offer = FunctionSignatures(function=7).measure(
        [generation_pb2.Tool(name="f", input_schema_json=json.dumps(schema))], FREE
    )
    joined = " ".join(offer.texts)
    assert "anyOf" in joined
    assert "$defs" in joined
