"""What the vendors publish as worked examples, against what is counted here."""

import json
from pathlib import Path

import pytest

from quartet.common.v1 import generation_pb2, message_pb2
from services.gateway.adapters.vocabularies import counter_of
from services.gateway.domain.tokens.contents import Contents
from services.gateway.domain.tokens.counter import TokenCounter
from services.gateway.domain.tokens.counting import Vocabulary, counting_of
from services.gateway.domain.tokens.documents import page_tokens
from services.gateway.domain.tokens.pictures import Size

COUNTER = TokenCounter(counter_of)
NO_SPEC = generation_pb2.GenerationSpec()
SYSTEM, USER = message_pb2.ROLE_SYSTEM, message_pb2.ROLE_USER
WITHIN = 0.05


def message(role: message_pb2.Role.ValueType, text: str, name: str = "") -> message_pb2.Message:
    return message_pb2.Message(role=role, name=name, parts=[message_pb2.Part(text=text)])


async def tokens_of(
    model: str, messages: list[message_pb2.Message], spec: generation_pb2.GenerationSpec = NO_SPEC
) -> int:
    return (await COUNTER.count(Contents(messages, spec, counting_of(model)))).tokens


# Counted by OpenAI's own tiktoken 0.14.0, in many scripts.
OWN_COUNTS = json.loads((Path(__file__).parent / "golden" / "token_counts.json").read_text("utf-8"))
# OpenAI's cookbook, "How to count tokens with tiktoken", sections 3 to 5.
TEXTS = [
    ("tiktoken is great!", 6, 6),
    ("antidisestablishmentarianism", 6, 6),
    ("2 + 2 = 4", 7, 7),
    ("お誕生日おめでとう", 9, 8),
]


@pytest.mark.parametrize(("text", "cl100k", "o200k"), TEXTS)
def test_a_text_has_its_published_count(text: str, cl100k: int, o200k: int) -> None:
    assert counter_of(Vocabulary.CL100K)(text) == cl100k
    assert counter_of(Vocabulary.O200K)(text) == o200k


@pytest.mark.parametrize("vocabulary", list(Vocabulary))
async def test_plain_text_counts_as_openais_own_library_counts_it(vocabulary: Vocabulary) -> None:
    counting = counting_of("gpt-4o" if vocabulary is Vocabulary.O200K else "gpt-4")
    for row in OWN_COUNTS:
        count = await COUNTER.count_texts([row["text"]], counting)
        assert (count.tokens, count.exact) == (row[vocabulary.value], True), row["text"]


# The same notebook, section 6: the counts that the API itself returned.
@pytest.mark.parametrize(
    ("model", "published"),
    [("gpt-3.5-turbo", 129), ("gpt-4-0613", 129), ("gpt-4", 129), ("gpt-4o", 124), ("gpt-4o-mini", 124)],
)
async def test_a_conversation_has_the_count_that_the_api_returned(model: str, published: int) -> None:
    messages = [
        message(
            SYSTEM,
            "You are a helpful, pattern-following assistant that translates corporate jargon into "
            "plain English.",
        ),
        message(SYSTEM, "New synergies will help drive top-line growth.", "example_user"),
        message(SYSTEM, "Things working well together will increase revenue.", "example_assistant"),
        message(
            SYSTEM,
            "Let's circle back when we have more bandwidth to touch base on opportunities for "
            "increased leverage.",
            "example_user",
        ),
        message(
            SYSTEM,
            "Let's talk later when we're less busy about how to do better.",
            "example_assistant",
        ),
        message(
            USER,
            "This late pivot means we don't have time to boil the ocean for the client deliverable.",
        ),
    ]
    assert await tokens_of(model, messages) == published


def weather(*properties: str) -> str:
    """The schema of the vendors' example tool."""
    known = {
        "location": {"type": "string", "description": "The city and state, e.g. San Francisco, CA"},
        "unit": {
            "type": "string",
            "description": "The unit of temperature to return",
            "enum": ["celsius", "fahrenheit"],
        },
    }
    chosen = {name: known[name] for name in properties}
    return json.dumps({"type": "object", "properties": chosen, "required": ["location"]})


# The same notebook, section 7.
@pytest.mark.parametrize(
    ("model", "published"), [("gpt-3.5-turbo", 105), ("gpt-4", 105), ("gpt-4o", 101), ("gpt-4o-mini", 101)]
)
async def test_a_function_costs_what_openais_example_says(model: str, published: int) -> None:
    tool = generation_pb2.Tool(
        name="get_current_weather",
        description="Get the current weather in a given location",
        input_schema_json=weather("location", "unit"),
    )
    messages = [
        message(SYSTEM, "You are a helpful assistant that can answer to questions about the weather."),
        message(USER, "What's the weather like in San Francisco?"),
    ]
    counted = await tokens_of(model, messages, generation_pb2.GenerationSpec(tools=[tool]))
    assert counted == pytest.approx(published, rel=WITHIN)


async def test_messages_and_tools_cost_what_anthropics_examples_say() -> None:
    # "Token counting": 14 tokens, and 403 with a tool (of which its prompt is 313 or 346, by the page's age).
    tool = generation_pb2.Tool(
        name="get_weather",
        description="Get the current weather in a given location",
        input_schema_json=weather("location"),
    )
    spec = generation_pb2.GenerationSpec(tools=[tool])
    model = "claude-sonnet-4-20250514"
    greeting = [message(SYSTEM, "You are a scientist"), message(USER, "Hello, Claude")]
    question = [message(USER, "What's the weather like in San Francisco?")]
    assert await tokens_of(model, greeting) == pytest.approx(14, rel=WITHIN)
    assert await tokens_of(model, question, spec) == pytest.approx(403, rel=WITHIN)


@pytest.mark.parametrize(
    ("model", "free", "forced"),
    [
        ("claude-opus-4-8", 290, 410),
        ("claude-opus-4-7", 675, 804),
        ("claude-opus-4-6", 497, 589),
        ("claude-haiku-4-5-20251001", 496, 588),
        ("claude-sonnet-4-20250514", 313, 315),
        ("claude-sonnet-5", 354, 474),
    ],
)
async def test_being_made_to_call_a_tool_costs_what_anthropics_table_says(
    model: str, free: int, forced: int
) -> None:
    question = [message(USER, "Why?")]
    spec = generation_pb2.GenerationSpec(tools=[generation_pb2.Tool(name="ask")])
    counted = await tokens_of(model, question, spec)
    spec.tool_choice.mode = generation_pb2.ToolChoice.MODE_REQUIRED
    assert await tokens_of(model, question, spec) - counted == forced - free
    assert counted - await tokens_of(model, question) == pytest.approx(free, abs=16)


# Model, detail, width, height, tokens. OpenAI: "Images and vision", the examples under "Calculating costs",
# and its tables' limits; those of GPT-6 are what its API charged.
OPENAI_PICTURES = [
    ("gpt-4o", "high", 1024, 1024, 765),
    ("gpt-4o", "high", 2048, 4096, 1105),
    ("gpt-4o", "low", 4096, 8192, 85),
    ("gpt-4o-mini", "low", 4096, 8192, 2833),
    ("gpt-4o-mini", "high", 1024, 1024, 2833 + 4 * 5667),
    ("gpt-4.1", "high", 1024, 1024, 765),
    ("gpt-5", "high", 1024, 1024, 70 + 4 * 140),
    ("o3", "high", 1024, 1024, 75 + 4 * 150),
    ("gpt-4.1-mini", "", 1024, 1024, 1024 * 1.62),
    ("gpt-4.1-mini", "", 1800, 2400, 1452 * 1.62),
    ("gpt-5-mini", "", 1800, 2400, 1452 * 1.62),
    ("gpt-5-nano", "", 1800, 2400, 1452 * 2.46),
    ("gpt-4.1-nano", "", 1024, 1024, 1024 * 2.46),
    ("o4-mini", "", 1800, 2400, 1452 * 1.72),
    ("gpt-5.4-mini", "", 8000, 8000, 1843),
    ("gpt-5.4", "original", 9000, 9000, 12_000),
    ("gpt-5.6-sol", "auto", 4800, 6400, 30_000 * 1.2),
    ("gpt-5.6-sol", "high", 1024, 1024, 1024 * 1.2),
    ("gpt-6-luna", "auto", 1920, 1080, 2448),
    ("gpt-6-luna", "high", 2560, 1440, 2931),
    ("gpt-6-luna", "low", 512, 512, 308),
]
# Anthropic: "Vision", the table under "Resolution and token cost"; "Migration guide" of Sonnet 5.5.
ANTHROPIC_PICTURES = [
    ("claude-opus-5-5", "", 1000, 1000, 1296),
    ("claude-opus-5-5", "", 1920, 1080, 2691),
    ("claude-sonnet-5-5", "", 9000, 5600, 4784),
    ("claude-opus-4-7", "", 2000, 1500, 2.5 * 1568),
    ("claude-haiku-4-5", "", 1000, 1000, 1296),
    ("claude-haiku-4-5", "", 1092, 1092, 1521),
    ("claude-haiku-4-5", "", 8000, 8000, 1568),
    ("claude-sonnet-4-6", "low", 200, 200, 64),
]


@pytest.mark.parametrize(
    ("model", "detail", "width", "height", "published"), OPENAI_PICTURES + ANTHROPIC_PICTURES
)
def test_a_picture_costs_what_its_vendors_example_says(
    model: str, detail: str, width: int, height: int, published: float
) -> None:
    counted = counting_of(model).images.tokens(Size(width, height), detail)
    assert counted == pytest.approx(published, rel=WITHIN)


@pytest.mark.parametrize("model", ["claude-haiku-4-5", "claude-sonnet-4-6"])
def test_three_pages_cost_what_anthropics_example_says(model: str) -> None:
    assert 3 * page_tokens(counting_of(model).images) == pytest.approx(7000, rel=WITHIN)
