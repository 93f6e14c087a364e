"""A whole answer as OpenAI's `response`."""

from collections.abc import Mapping
from typing import Any

from services.gateway.adapters.openai.response import read_chunk
from services.gateway.adapters.openai.responses_output import (
    COMPLETED,
    end_response,
    open_response,
    read_likelihoods,
    status_of,
    write_items,
)
from services.gateway.domain.dispatch import Answer
from services.gateway.domain.headers import facts


def write_response(answer: Answer, *, model: str, told: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a unary answer; `model` stands in where the handler named none."""
    completion, head = answer.completion, answer.head
    response = open_response(head, model=completion.model or model, told=told)
    items = response["output"] = write_items(completion.message, head)
    _, of_choice = read_chunk(completion.extra)
    texts = (part for item in items for part in item.get("content", ()) if part["type"] == "output_text")
    if (text := next(texts, None)) is not None:
        text["logprobs"] = read_likelihoods(of_choice)
    for item in items:
        item["status"] = COMPLETED if item is not items[-1] else status_of(completion)
    quartet = facts(answer.decision, completion, head)
    end_response(response, completion, quartet, at_s=head.created_s)
    return response
