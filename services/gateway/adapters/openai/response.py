"""A whole answer as OpenAI's `chat.completion`, and the parts that a stream shares with it."""

from collections.abc import Iterable, Mapping
from typing import Any

from quartet.common.v1 import generation_pb2, message_pb2
from services.gateway.adapters.extras import OPENAI, read_extra
from services.gateway.domain.dispatch import Answer
from services.gateway.domain.headers import facts
from services.kit.members import lay_over

FINISH_REASONS: Mapping[generation_pb2.FinishReason.ValueType, str] = {
    generation_pb2.FINISH_REASON_LENGTH: "length",
    generation_pb2.FINISH_REASON_TOOL_CALLS: "tool_calls",
    generation_pb2.FINISH_REASON_CONTENT_FILTER: "content_filter",
}
"""Every other reason is `stop`."""


def write_completion(answer: Answer, *, model: str) -> dict[str, Any]:
    """The body of a unary answer; `model` stands in where the handler named none."""
    completion = answer.completion
    choice = {
        "index": 0,
        "message": _write_message(completion.message),
        "logprobs": None,
        "finish_reason": FINISH_REASONS.get(completion.finish_reason, "stop"),
    }
    written = {
        "id": completion_id(answer.head.request_id),
        "object": "chat.completion",
        "created": answer.head.created_s,
        "model": completion.model or model,
        "choices": [choice],
        "usage": write_usage(completion.usage) | {"quartet": facts(answer.decision, completion, answer.head)},
    }
    more, of_choice = read_chunk(completion.extra)
    lay_over(choice, of_choice)
    lay_over(written, more)
    return written


def read_chunk(extra: message_pb2.Extra) -> tuple[dict[str, Any], dict[str, Any]]:
    """A provider's further members: of the whole, and of its choice."""
    more = read_extra(extra, OPENAI)
    choices = more.pop("choices", None)
    return more, choices[0] if choices else {}


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
    """Citations as their provider made them, else in the shape of OpenAI's own; ours stand beside it."""
    return [
        read_extra(citation.extra, OPENAI)
        or {"type": "url_citation", "url_citation": write_citation(citation)}
        for citation in citations
    ]


def write_citation(citation: message_pb2.Citation) -> dict[str, Any]:
    """What is cited, where, and in which part of the answer."""
    return {
        "start_index": citation.answer_start_char,
        "end_index": citation.answer_end_char,
        "title": citation.title,
        "url": _address_of(citation),
        "document_id": citation.document_id,
        "source": citation.source,
        "chunk_id": citation.chunk_id,
        "collection": citation.collection,
        "quote": citation.quote,
        "start_char": citation.start_char,
        "end_char": citation.end_char,
        "score": citation.score,
        "index": citation.index,
    }


def _address_of(citation: message_pb2.Citation) -> str:
    """Where what is cited can be read: a document of ours, else the provider's source."""
    return f"/api/v1/documents/{citation.document_id}" if citation.document_id else citation.source


def citations_of(message: message_pb2.Message) -> list[message_pb2.Citation]:
    """Every citation of an answer, in order."""
    return [citation for part in message.parts for citation in part.citations]


def write_call(call: message_pb2.ToolCall) -> dict[str, Any]:
    """A call of a tool, or the first piece of one."""
    if call.HasField("input_text"):
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.input_text}}
    function = {"name": call.name, "arguments": call.arguments_json}
    return {"id": call.id, "type": "function", "function": function}


def write_thinking(thinking: message_pb2.Thinking) -> dict[str, Any] | None:
    """Reasoning that its model wants back, which the dialect has no member for; None where it wants none."""
    if thinking.redacted_data:
        return {"type": "redacted_thinking", "data": thinking.redacted_data}
    if thinking.signature:
        return {"type": "thinking", "thinking": thinking.text, "signature": thinking.signature}
    return None


def _write_message(message: message_pb2.Message) -> dict[str, Any]:
    written: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
    calls: list[dict[str, Any]] = []
    thoughts: list[dict[str, Any]] = []
    for part in message.parts:
        match part.WhichOneof("kind"):
            case "text":
                written["content"] = (written["content"] or "") + part.text
            case "refusal":
                written["refusal"] = (written["refusal"] or "") + part.refusal
            case "thinking":
                if part.thinking.text:
                    written["reasoning_content"] = written.get("reasoning_content", "") + part.thinking.text
                if block := write_thinking(part.thinking):
                    thoughts.append(block)
            case "tool_call":
                call = write_call(part.tool_call)
                lay_over(call, read_extra(part.extra, OPENAI))
                calls.append(call)
    if thoughts:
        written["thinking_blocks"] = thoughts
    if calls:
        written["tool_calls"] = calls
    written["annotations"] = write_annotations(citations_of(message))
    return written
