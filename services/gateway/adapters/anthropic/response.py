"""A whole answer as Anthropic's `message`, and the parts that a stream shares with it."""

from collections.abc import Mapping
from typing import Any

import orjson

from quartet.common.v1 import generation_pb2, message_pb2
from services.gateway.adapters.extras import ANTHROPIC, read_extra
from services.gateway.domain.dispatch import Answer
from services.gateway.domain.headers import facts
from services.kit.members import lay_over

STOP_REASONS: Mapping[generation_pb2.FinishReason.ValueType, str] = {
    generation_pb2.FINISH_REASON_LENGTH: "max_tokens",
    generation_pb2.FINISH_REASON_TOOL_CALLS: "tool_use",
    generation_pb2.FINISH_REASON_CONTENT_FILTER: "refusal",
    generation_pb2.FINISH_REASON_REFUSAL: "refusal",
    generation_pb2.FINISH_REASON_STOP_SEQUENCE: "stop_sequence",
    generation_pb2.FINISH_REASON_PAUSE: "pause_turn",
}
"""Every other reason is `end_turn`."""


def write_message(answer: Answer, *, model: str) -> dict[str, Any]:
    """The body of a unary answer; `model` stands in where the handler named none."""
    completion = answer.completion
    written = {
        "id": message_id(answer.head.request_id),
        "type": "message",
        "role": "assistant",
        "model": completion.model or model,
        "content": [block for part in completion.message.parts if (block := _write_block(part))],
        **write_stop(completion),
        "usage": write_usage(completion.usage) | {"quartet": facts(answer.decision, completion, answer.head)},
    }
    lay_over(written, read_extra(completion.extra, ANTHROPIC))
    return written


def message_id(request_id: str) -> str:
    """Anthropic's form of an answer's id."""
    return f"msg_{request_id}"


def write_stop(completion: generation_pb2.Completion) -> dict[str, str | None]:
    """Why the answer ended."""
    reason = STOP_REASONS.get(completion.finish_reason, "end_turn")
    sequence = completion.stop_detail if reason == "stop_sequence" else None
    return {"stop_reason": reason, "stop_sequence": sequence}


def write_usage(usage: generation_pb2.Usage) -> dict[str, Any]:
    """Tokens as Anthropic counts them: what went through the cache stands apart from the input."""
    cached = usage.cached_input_tokens + usage.cache_write_tokens
    written: dict[str, Any] = {
        "input_tokens": max(0, usage.input_tokens - cached),
        "cache_read_input_tokens": usage.cached_input_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "output_tokens": usage.output_tokens,
    }
    if usage.reasoning_tokens:
        written["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return written


def write_citation(citation: message_pb2.Citation) -> dict[str, Any]:
    """A citation as its provider made it, else in the shape of Anthropic's own; ours stands beside it."""
    if own := read_extra(citation.extra, ANTHROPIC):
        return own
    if not citation.document_id and citation.source:
        return {
            "type": "web_search_result_location",
            "cited_text": citation.quote,
            "encrypted_index": "",
            "title": citation.title,
            "url": citation.source,
        }
    return {
        "type": "char_location",
        "cited_text": citation.quote,
        "document_index": max(0, citation.index - 1),
        "document_title": citation.title,
        "start_char_index": citation.start_char,
        "end_char_index": citation.end_char,
        "file_id": None,
        "document_id": citation.document_id,
        "chunk_id": citation.chunk_id,
        "collection": citation.collection,
        "score": citation.score,
        "answer_start_char": citation.answer_start_char,
        "answer_end_char": citation.answer_end_char,
        "index": citation.index,
    }


def open_block(part: message_pb2.Part) -> dict[str, Any]:
    """A block before its content, as a stream begins it."""
    match part.WhichOneof("kind"):
        case "tool_call":
            call = part.tool_call
            return {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
        case "thinking" if part.thinking.redacted_data:
            return {"type": "redacted_thinking", "data": part.thinking.redacted_data}
        case "thinking":
            return {"type": "thinking", "thinking": "", "signature": ""}
    return {"type": "text", "text": ""}


def _write_block(part: message_pb2.Part) -> dict[str, Any] | None:
    block = open_block(part)
    match part.WhichOneof("kind"):
        case "text":
            block["text"] = part.text
            block["citations"] = [write_citation(citation) for citation in part.citations] or None
        case "refusal":
            block["text"] = part.refusal
        case "tool_call":
            block["input"] = _read_input(part.tool_call)
        case "thinking" if not part.thinking.redacted_data:
            block.update(thinking=part.thinking.text, signature=part.thinking.signature)
        case "thinking":
            pass
        case "opaque":
            return read_extra(part.opaque, ANTHROPIC) or None
        case _:
            return None
    lay_over(block, read_extra(part.extra, ANTHROPIC))
    return block


def _read_input(call: message_pb2.ToolCall) -> Any:
    """A tool's input, which Anthropic has as an object; what a model wrote wrong is handed on as it is."""
    if call.HasField("input_text"):
        return {"input": call.input_text}
    text = call.arguments_json or "{}"
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = None
    return orjson.Fragment(text) if isinstance(value, dict) else {"invalid_json": text}
