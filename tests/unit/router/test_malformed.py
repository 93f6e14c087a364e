"""What providers send against their own format ends as a typed error, never as a fault of ours."""

from typing import Any

import pytest

from services.router.adapters.anthropic import responses as anthropic
from services.router.adapters.openai import responses as openai
from services.router.adapters.provider import MalformedAnswerError

USAGES: list[Any] = [
    "many",
    {"prompt_tokens": -1},
    {"prompt_tokens": 2**70},
    {"completion_tokens_details": 3},
]
START: dict[str, Any] = {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 1}}}


@pytest.mark.parametrize("usage", USAGES, ids=str)
def test_openai_s_usage(usage: Any) -> None:
    message = {"message": {"content": "hi"}, "finish_reason": "stop"}
    with pytest.raises(MalformedAnswerError):
        openai.decode_completion({"choices": [message], "usage": usage})
    decoder = openai.StreamDecoder()
    list(decoder.feed({"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": usage}))
    with pytest.raises(MalformedAnswerError):
        decoder.completion()


@pytest.mark.parametrize(
    "usage", [{"input_tokens": -1}, {"input_tokens": 2**70}, {"output_tokens": "x"}], ids=str
)
def test_anthropic_s_usage(usage: Any) -> None:
    with pytest.raises(MalformedAnswerError):
        anthropic.decode_completion({"content": [], "usage": usage})
    decoder = anthropic.StreamDecoder()
    list(decoder.feed(START))
    list(decoder.feed({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}))
    with pytest.raises(MalformedAnswerError):
        decoder.completion()


@pytest.mark.parametrize("tier", [None, 7, ["flex"], {}, "", "a\x00b"], ids=repr)
def test_a_tier_that_is_no_name_is_none(tier: Any) -> None:
    message = {"message": {"content": "hi"}, "finish_reason": "stop"}
    answer = {"choices": [message], "usage": {"prompt_tokens": 1}, "service_tier": tier}
    assert openai.decode_completion(answer).usage.service_tier == ""
    usage = {"input_tokens": 1, "service_tier": tier}
    assert anthropic.decode_completion({"content": [], "usage": usage}).usage.service_tier == ""


def test_how_an_answer_of_anthropic_s_ended() -> None:
    decoder = anthropic.StreamDecoder()
    list(decoder.feed(START))
    list(decoder.feed({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_details": 7}}))
    with pytest.raises(MalformedAnswerError):
        decoder.completion()
