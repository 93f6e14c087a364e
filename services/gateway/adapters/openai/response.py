"""A whole answer as OpenAI's `chat.completion`, and the parts that a stream shares with it."""

from collections.abc import Iterable, Mapping
from typing import Any

from quartet.common.v1 import generation_pb2, message_pb2
from services.gateway.domain.dispatch import Answer
from services.gateway.domain.headers import facts

FINISH_REASONS: Mapping[generation_pb2.FinishReason.ValueType, str] = {
    generation_pb2.FINISH_REASON_LENGTH: "length",
    generation_pb2.FINISH_REASON_TOOL_CALLS: "tool_calls",
    generation_pb2.FINISH_REASON_CONTENT_FILTER: "content_filter",
}
"""Every other reason is `stop`."""


def write_completion(answer: Answer, *, model: str) -> dict[str, Any]:
    """The body of a unary answer; `model` stands in where the handler named none."""
    completion = answer.completion
    return {
        "id": completion_id(answer.head.request_id),
        "object": "chat.completion",
        "created": answer.head.created_s,
        "model": completion.model or model,
        "choices": [
            {
                "index": 0,
                "message": _write_message(completion.message),
                "logprobs": None,
                "finish_reason": FINISH_REASONS.get(completion.finish_reason, "stop"),
            }
        ],
        "usage": write_usage(completion.usage) | {"quartet": facts(answer.decision, completion, answer.head)},
    }


def completion_id(request_id: str) -> str:
    """OpenAI's form of an answer's id."""
    return f"chatcmpl-{request_id}"


def write_usage(usage: generation_pb2.Usage) -> dict[str, Any]:
    """Tokens as OpenAI counts them: cached ones within the prompt's, reasoning within the completion's."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached_input_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def write_annotations(citations: Iterable[message_pb2.Citation]) -> list[dict[str, Any]]:
    """Citations in the shape of OpenAI's own, whose address leads to the document; ours stand beside it."""
    return [
        {
            "type": "url_citation",
            "url_citation": {
                "start_index": citation.answer_start_char,
                "end_index": citation.answer_end_char,
                "title": citation.title,
                "url": address_of(citation),
                "document_id": citation.document_id,
                "source": citation.source,
                "chunk_id": citation.chunk_id,
                "collection": citation.collection,
                "quote": citation.quote,
                "start_char": citation.start_char,
                "end_char": citation.end_char,
                "score": citation.score,
                "index": citation.index,
            },
        }
        for citation in citations
    ]


def address_of(citation: message_pb2.Citation) -> str:
    """Where what is cited can be read: a document of ours, else the provider's source."""
    return f"/api/v1/documents/{citation.document_id}" if citation.document_id else citation.source


def citations_of(message: message_pb2.Message) -> list[message_pb2.Citation]:
    """Every citation of an answer, in order."""
    return [citation for part in message.parts for citation in part.citations]


def _write_message(message: message_pb2.Message) -> dict[str, Any]:
    written: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
    calls: list[dict[str, Any]] = []
    for part in message.parts:
        match part.WhichOneof("kind"):
            case "text":
                written["content"] = (written["content"] or "") + part.text
            case "refusal":
                written["refusal"] = (written["refusal"] or "") + part.refusal
            case "thinking":
                written["reasoning_content"] = written.get("reasoning_content", "") + part.thinking.text
            case "tool_call":
                call = part.tool_call
                function = {"name": call.name, "arguments": call.arguments_json}
                calls.append({"id": call.id, "type": "function", "function": function})
    if calls:
        written["tool_calls"] = calls
    written["annotations"] = write_annotations(citations_of(message))
    return written
